"""Network: which share of the bytes on eth0 since boot went out."""
from . import percent


def egress(input, env):
    sent = input["net_io_counters_eth0-bytes_sent"]
    received = input["net_io_counters_eth0-bytes_recv"]
    return {"percent-network-egress": percent(sent, sent + received)}
