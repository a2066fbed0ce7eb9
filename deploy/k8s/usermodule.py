"""Share of outgoing traffic and of memory held as cache, and a moving average of each CPU over the last minute."""

SAMPLES = 12  # one minute at one sample every five seconds


def handler(input: dict, context: object) -> dict:
    sent = input["net_io_counters_eth0-bytes_sent"]
    received = input["net_io_counters_eth0-bytes_recv"]
    cache = input["virtual_memory-buffers"] + input["virtual_memory-cached"]
    result = {
        "percent-network-egress": 100 * sent / (sent + received) if sent + received else 0.0,
        "percent-memory-cache": 100 * cache / input["virtual_memory-total"],
    }

    windows = context.env.setdefault("windows", {})
    for name, value in input.items():
        if name.startswith("cpu_percent-"):
            window = windows.setdefault(name, [])
            window.append(value)
            del window[:-SAMPLES]
            result[f"avg-util-cpu{name.removeprefix('cpu_percent-')}-60sec"] = sum(window) / len(window)
    return result
