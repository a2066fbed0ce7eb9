//! The metrics object of this machine, field by field what `psutil` would say of it.
//!
//! `procfs` parses the files; the meaning of a field (what counts as used, busy or cached) is psutil's. Where procfs
//! leaves something out (interrupts, the order of the interfaces), the line is read here.

use std::fs;
use std::path::{Path, PathBuf};

use chrono::{Local, NaiveDateTime, Timelike};
use procfs::net::{DeviceStatus, InterfaceDeviceStatus, RouteEntries};
use procfs::prelude::{FromBufRead, FromBufReadSI};
use procfs::{CpuTime, KernelStats, Meminfo};
use runtime_core::Fault;
use serde_json::{Map, Value};

/// Flags of a route (`linux/route.h`): usable, and one that only rejects.
const ROUTE_UP: u16 = 0x1;
const ROUTE_REJECT: u16 = 0x200;

/// The name under which published functions look for the network.
const ETH0: &str = "eth0";

/// Reads one metrics object at a time and remembers the processor times of the last one.
#[derive(Debug)]
pub(super) struct Collector {
    /// `/proc`; tests put files of their own here.
    proc: PathBuf,
    /// `/sys/devices/system/cpu`, for the frequencies.
    cpus: PathBuf,
    /// Processor times at the last sample: percentages are what happened since.
    last: Vec<CpuTime>,
}

impl Default for Collector {
    fn default() -> Self {
        Self::new()
    }
}

impl Collector {
    /// Of the machine that this process runs on.
    pub(super) fn new() -> Self {
        Self::at("/proc", "/sys/devices/system/cpu")
    }

    fn at(proc: impl Into<PathBuf>, cpus: impl Into<PathBuf>) -> Self {
        Self { proc: proc.into(), cpus: cpus.into(), last: Vec::new() }
    }

    /// Starts the interval over which the next sample's processor percentages are taken.
    ///
    /// # Errors
    /// `/proc/stat` cannot be read.
    pub(super) fn start(&mut self) -> Result<(), Fault> {
        self.last = self.stat()?.1.cpu_time;
        Ok(())
    }

    /// The whole object, keys in their documented order: integers are counts or bytes, percentages and MHz floats.
    ///
    /// # Errors
    /// A file of `/proc` that every Linux has cannot be read.
    pub(super) fn sample(&mut self) -> Result<Map<String, Value>, Fault> {
        let mut metrics = Map::new();
        metrics.insert("timestamp".into(), stamp(Local::now().naive_local()).into());
        self.processor(&mut metrics)?;
        self.memory(&mut metrics)?;
        metrics.insert("n_pids".into(), self.processes()?.into());
        self.network(&mut metrics)?;
        Ok(metrics)
    }

    fn read(&self, name: &str) -> Result<String, Fault> {
        let path = self.proc.join(name);
        fs::read_to_string(&path).map_err(|error| unreadable(&path, error))
    }

    fn stat(&self) -> Result<(String, KernelStats), Fault> {
        let text = self.read("stat")?;
        let stats = KernelStats::from_buf_read(text.as_bytes(), procfs::current_system_info())
            .map_err(|error| unreadable(&self.proc.join("stat"), error))?;
        Ok((text, stats))
    }

    fn processor(&mut self, metrics: &mut Map<String, Value>) -> Result<(), Fault> {
        let (text, stats) = self.stat()?;
        for (n, now) in stats.cpu_time.iter().enumerate() {
            let busy = self.last.get(n).map_or(0.0, |before| busy_percent(before, now));
            metrics.insert(format!("cpu_percent-{n}"), busy.into());
        }
        self.last = stats.cpu_time;
        metrics.insert("cpu_freq_current".into(), self.megahertz().into());
        // The kernel counts no system calls; psutil says 0 as well.
        for (name, count) in [
            ("ctx_switches", stats.ctxt),
            ("interrupts", total(&text, "intr ")),
            ("soft_interrupts", total(&text, "softirq ")),
            ("syscalls", 0),
        ] {
            metrics.insert(format!("cpu_stats-{name}"), count.into());
        }
        Ok(())
    }

    /// The mean over all processors in MHz; 0.0 where the machine does not say (many virtual ones, most of ARM).
    fn megahertz(&self) -> f64 {
        let text = self.read("cpuinfo").unwrap_or_default();
        let stated: Vec<f64> = text
            .lines()
            .filter(|line| line.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("cpu MHz")))
            .filter_map(|line| line.split_once(':')?.1.trim().parse().ok())
            .collect();
        let scaled = self.scaled();
        // Where both exist for each processor, psutil takes cpuinfo's: reading the other may wake the processor.
        if scaled.is_empty() || scaled.len() == stated.len() { mean(&stated) } else { mean(&scaled) }
    }

    /// What the frequency drivers say, one number per policy or processor.
    fn scaled(&self) -> Vec<f64> {
        let mut folders = numbered(&self.cpus.join("cpufreq"), "policy");
        if folders.is_empty() {
            folders = numbered(&self.cpus, "cpu").into_iter().map(|cpu| cpu.join("cpufreq")).collect();
            folders.retain(|folder| folder.is_dir());
        }
        let kilohertz = |folder: &Path, file: &str| -> Option<f64> {
            fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok()
        };
        let current = |folder: &PathBuf| {
            // without either file the processor is offline, which psutil counts as 0
            kilohertz(folder, "scaling_cur_freq").or_else(|| kilohertz(folder, "cpuinfo_cur_freq")).unwrap_or(0.0)
                / 1000.0
        };
        folders.iter().map(current).collect()
    }

    fn memory(&self, metrics: &mut Map<String, Value>) -> Result<(), Fault> {
        let text = self.read("meminfo")?;
        let memory =
            Meminfo::from_buf_read(text.as_bytes()).map_err(|error| unreadable(&self.proc.join("meminfo"), error))?;
        let (total, free) = (memory.mem_total, memory.mem_free);
        let cached = memory.cached + memory.s_reclaimable.unwrap_or(0);
        // Inside some containers the parts are the machine's and the total is the container's.
        let used = total.checked_sub(free + memory.buffers + cached).unwrap_or(total.saturating_sub(free));
        let available = memory.mem_available.filter(|&bytes| bytes > 0).unwrap_or(free + memory.cached);
        let available = if available > total { free } else { available };
        for (name, bytes) in [
            ("total", total),
            ("available", available),
            ("used", used),
            ("free", free),
            ("active", memory.active),
            ("inactive", memory.inactive),
            ("buffers", memory.buffers),
            ("cached", cached),
            ("shared", memory.shmem.unwrap_or(0)),
            ("slab", memory.slab),
        ] {
            metrics.insert(format!("virtual_memory-{name}"), bytes.into());
        }
        metrics.insert("virtual_memory-percent".into(), percent(total.saturating_sub(available), total).into());
        Ok(())
    }

    fn processes(&self) -> Result<usize, Fault> {
        let entries = fs::read_dir(&self.proc).map_err(|error| unreadable(&self.proc, error))?;
        let number = |name: &std::ffi::OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
        Ok(entries.flatten().filter(|entry| number(&entry.file_name())).count())
    }

    fn network(&self, metrics: &mut Map<String, Value>) -> Result<(), Fault> {
        let text = self.read("net/dev")?;
        let devices = InterfaceDeviceStatus::from_buf_read(text.as_bytes())
            .map_err(|error| unreadable(&self.proc.join("net/dev"), error))?
            .0;
        let names: Vec<&str> = text.lines().skip(2).filter_map(|line| Some(line.rsplit_once(':')?.0.trim())).collect();
        let main = if names.contains(&ETH0) { Some(ETH0.to_owned()) } else { self.main_interface(&names) };
        let first = main.iter().map(|name| (ETH0, name.as_str()));
        let others = names.iter().filter(|&&name| name != ETH0).map(|&name| (name, name));
        for (label, name) in first.chain(others) {
            if let Some(device) = devices.get(name) {
                counters(metrics, label, device);
            }
        }
        Ok(())
    }

    /// The interface that stands in for a missing eth0.
    fn main_interface(&self, names: &[&str]) -> Option<String> {
        let text = self.read("net/route").unwrap_or_default();
        let routes = RouteEntries::from_buf_read(text.as_bytes()).map(|routes| routes.0).unwrap_or_default();
        let default = routes
            .into_iter()
            .filter(|route| route.destination.is_unspecified() && route.mask.is_unspecified())
            .filter(|route| route.flags & ROUTE_UP != 0 && route.flags & ROUTE_REJECT == 0)
            .filter(|route| names.contains(&route.iface.as_str()))
            .min_by_key(|route| route.metrics);
        let fallback = || names.iter().find(|&&name| name != "lo").or(names.first()).map(|&name| name.to_owned());
        default.map(|route| route.iface).or_else(fallback)
    }
}

fn unreadable(path: &Path, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Fault {
    let text = format!("{} cannot be read; the source 'host' needs Linux with /proc mounted", path.display());
    Fault::backend(text).caused_by(cause)
}

/// `str(datetime.now())`: the fraction is left out when it is exactly 0.
fn stamp(now: NaiveDateTime) -> String {
    let format = if now.nanosecond() / 1000 == 0 { "%Y-%m-%d %H:%M:%S" } else { "%Y-%m-%d %H:%M:%S%.6f" };
    now.format(format).to_string()
}

/// The first number of a line of `/proc/stat`, which is the sum of the others.
fn total(stat: &str, start: &str) -> u64 {
    let line = stat.lines().find_map(|line| line.strip_prefix(start));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The part of the time between two samples that a processor did not spend idle or waiting for a disk. Time of
/// guests is part of `user` and `nice` already; a counter that went back counts as standing still.
fn busy_percent(before: &CpuTime, now: &CpuTime) -> f64 {
    let since = |part: fn(&CpuTime) -> Option<u64>| part(now).unwrap_or(0).saturating_sub(part(before).unwrap_or(0));
    let idle = since(|time| Some(time.idle)) + since(|time| time.iowait);
    let busy = since(|time| Some(time.user))
        + since(|time| Some(time.nice))
        + since(|time| Some(time.system))
        + since(|time| time.irq)
        + since(|time| time.softirq)
        + since(|time| time.steal);
    percent(busy, busy + idle)
}

/// With one decimal, rounded as Python's `round(x, 1)` does: by the exact value, which only the formatter knows.
#[allow(clippy::cast_precision_loss, reason = "bytes and ticks are far below 2^53")]
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    let exact = part as f64 / whole as f64 * 100.0;
    format!("{exact:.1}").parse().unwrap_or(exact)
}

#[allow(clippy::cast_precision_loss, reason = "a number of processors")]
fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// Entries of a folder that are named `prefix` and a number.
fn numbered(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let number = |name: &str| -> bool {
        name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_str().is_some_and(number)).map(|entry| entry.path()).collect()
}

fn counters(metrics: &mut Map<String, Value>, label: &str, device: &DeviceStatus) {
    for (name, count) in [
        ("bytes_sent", device.sent_bytes),
        ("bytes_recv", device.recv_bytes),
        ("packets_sent", device.sent_packets),
        ("packets_recv", device.recv_packets),
        ("errin", device.recv_errs),
        ("errout", device.sent_errs),
        ("dropin", device.recv_drop),
        ("dropout", device.sent_drop),
    ] {
        metrics.insert(format!("net_io_counters_{label}-{name}"), count.into());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const STAT: &str = "\
cpu  400 0 0 400 0 0 0 0 0 0
cpu0 100 10 50 800 40 0 0 0 30 5
cpu1 100 0 0 900 0 0 0 0 0 0
intr 5000000123 1 2 3
ctxt 9000000456
btime 1700000000
processes 42
procs_running 1
procs_blocked 0
softirq 6000000789 1 2
";

    const MEMINFO: &str = "\
MemTotal:       16000 kB
MemFree:         4000 kB
MemAvailable:    9998 kB
Buffers:          500 kB
Cached:          3000 kB
SwapCached:         0 kB
Active:          2000 kB
Inactive:        1000 kB
SwapTotal:          0 kB
SwapFree:           0 kB
Dirty:              0 kB
Writeback:          0 kB
Mapped:            10 kB
Shmem:            700 kB
Slab:             900 kB
SReclaimable:     400 kB
Committed_AS:    1000 kB
VmallocTotal:   99999 kB
VmallocUsed:        1 kB
VmallocChunk:       0 kB
";

    const HEADER: &str = "Inter-|   Receive  |  Transmit\n face |bytes packets|bytes packets\n";
    const ROUTES: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";

    /// A machine made of files.
    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Self {
            let machine = Self(tempfile::tempdir().unwrap());
            machine.write("proc/stat", STAT);
            machine.write("proc/meminfo", MEMINFO);
            machine.write(
                "proc/cpuinfo",
                "processor\t: 0\ncpu MHz\t\t: 2000.500\n\nprocessor\t: 1\ncpu MHz\t\t: 3000.000\n",
            );
            machine.interfaces(&["lo", "wlan0", "docker0"]);
            machine.write("proc/net/route", ROUTES);
            for name in ["proc/1/stat", "proc/4711/stat", "proc/12x/stat", "proc/sys/x"] {
                machine.write(name, "");
            }
            machine
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn interfaces(&self, names: &[&str]) {
            let line = |(n, name): (usize, &&str)| {
                format!("{name:>6}: {n}01 {n}02 {n}03 {n}04 0 0 0 0 {n}09 {n}10 {n}11 {n}12 0 0 0 0\n")
            };
            self.write(
                "proc/net/dev",
                &names.iter().enumerate().map(line).fold(HEADER.to_owned(), |all, line| all + &line),
            );
        }

        fn collector(&self) -> Collector {
            Collector::at(self.0.path().join("proc"), self.0.path().join("cpu"))
        }

        fn sample(&self) -> Map<String, Value> {
            self.collector().sample().unwrap()
        }

        fn network(&self) -> Vec<(String, u64)> {
            let sent = |(key, value): (String, Value)| {
                let label = key.strip_prefix("net_io_counters_")?.strip_suffix("-bytes_sent")?;
                Some((label.to_owned(), value.as_u64()?))
            };
            self.sample().into_iter().filter_map(sent).collect()
        }
    }

    fn owned(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
        expected.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
    }

    #[test]
    fn names_order_and_values_are_the_documented_ones() {
        let machine = Machine::new();
        let mut metrics = machine.sample();
        metrics.retain(|key, _| !key.starts_with("net_io_counters_") || key.contains("_lo-"));
        metrics.insert("timestamp".into(), "now".into());
        let expected = r#"{"timestamp":"now","cpu_percent-0":0.0,"cpu_percent-1":0.0,"cpu_freq_current":2500.25,"cpu_stats-ctx_switches":9000000456,"cpu_stats-interrupts":5000000123,"cpu_stats-soft_interrupts":6000000789,"cpu_stats-syscalls":0,"virtual_memory-total":16384000,"virtual_memory-available":10237952,"virtual_memory-used":8294400,"virtual_memory-free":4096000,"virtual_memory-active":2048000,"virtual_memory-inactive":1024000,"virtual_memory-buffers":512000,"virtual_memory-cached":3481600,"virtual_memory-shared":716800,"virtual_memory-slab":921600,"virtual_memory-percent":37.5,"n_pids":2,"net_io_counters_lo-bytes_sent":9,"net_io_counters_lo-bytes_recv":1,"net_io_counters_lo-packets_sent":10,"net_io_counters_lo-packets_recv":2,"net_io_counters_lo-errin":3,"net_io_counters_lo-errout":11,"net_io_counters_lo-dropin":4,"net_io_counters_lo-dropout":12}"#;
        assert_eq!(serde_json::to_string(&metrics).unwrap(), expected);
    }

    #[test]
    fn processors_count_what_happened_since_the_last_sample() {
        let machine = Machine::new();
        let mut collector = machine.collector();
        collector.start().unwrap();
        // cpu0: 30 busy (20 of them for a guest, not counted twice), 60 idle, 10 waiting; cpu1: idle went back
        let later =
            STAT.replace("cpu0 100 10 50 800 40 0 0 0 30 5", "cpu0 120 10 55 860 50 3 1 1 50 5").replace("900", "890");
        machine.write("proc/stat", &later);
        let metrics = collector.sample().unwrap();
        assert_eq!(metrics["cpu_percent-0"].to_string(), "30.0");
        assert_eq!(metrics["cpu_percent-1"].to_string(), "0.0");
    }

    #[test]
    fn a_container_whose_parts_exceed_its_total_still_adds_up() {
        let machine = Machine::new();
        machine.write("proc/meminfo", &MEMINFO.replace("MemTotal:       16000", "MemTotal:        5000"));
        let metrics = machine.sample();
        assert_eq!(metrics["virtual_memory-used"], 1000 * 1024);
        assert_eq!(metrics["virtual_memory-available"], 4000 * 1024);
        assert_eq!(metrics["virtual_memory-percent"].to_string(), "20.0");
    }

    #[test]
    fn percentages_round_as_python_does() {
        // round(x, 1) of 0.25, 31.25, 0.375 and 99.95
        assert_eq!([percent(1, 400), percent(5, 16), percent(3, 800), percent(1999, 2000)], [0.2, 31.2, 0.4, 100.0]);
        assert_eq!(percent(0, 0), 0.0);
    }

    #[test]
    fn the_frequency_comes_from_the_drivers_where_cpuinfo_is_silent() {
        let machine = Machine::new();
        machine.write("proc/cpuinfo", "processor\t: 0\nBogoMIPS\t: 50.00\n");
        assert_eq!(machine.sample()["cpu_freq_current"].to_string(), "0.0");
        machine.write("cpu/cpu0/cpufreq/scaling_cur_freq", "1500000\n");
        machine.write("cpu/cpu1/cpufreq/cpuinfo_cur_freq", "1800000\n");
        machine.write("cpu/cpuidle/current_driver", "none\n");
        assert_eq!(machine.sample()["cpu_freq_current"].to_string(), "1650.0");
        machine.write("cpu/cpufreq/policy0/scaling_cur_freq", "1200000\n");
        assert_eq!(machine.sample()["cpu_freq_current"].to_string(), "1200.0");
    }

    #[test]
    fn the_default_route_stands_in_for_a_missing_eth0() {
        let machine = Machine::new();
        let route = |iface: &str, target: &str, flags: &str, metric: u32| {
            format!("{iface}\t{target}\t010200C0\t{flags}\t0\t0\t{metric}\t{target}\t0\t0\t0\n")
        };
        assert_eq!(machine.network(), owned(&[("eth0", 109), ("lo", 9), ("wlan0", 109), ("docker0", 209)]));
        let routes = [
            route("docker0", "000200C0", "0001", 0),
            route("lo", "00000000", "0200", 0),
            route("gone", "00000000", "0003", 1),
            route("wlan0", "00000000", "0003", 600),
            route("docker0", "00000000", "0003", 100),
        ];
        machine.write("proc/net/route", &(ROUTES.to_owned() + &routes.concat()));
        assert_eq!(machine.network(), owned(&[("eth0", 209), ("lo", 9), ("wlan0", 109), ("docker0", 209)]));
        machine.interfaces(&["lo", "wlan0", "eth0"]);
        assert_eq!(machine.network(), owned(&[("eth0", 209), ("lo", 9), ("wlan0", 109)]));
        machine.interfaces(&["lo"]);
        assert_eq!(machine.network(), owned(&[("eth0", 9), ("lo", 9)]));
        machine.interfaces(&[]);
        assert_eq!(machine.network(), owned(&[]));
    }

    #[test]
    fn a_whole_second_has_no_fraction() {
        let stamped = |micros: i64| stamp(chrono::DateTime::from_timestamp_micros(micros).unwrap().naive_utc());
        assert_eq!(stamped(1_714_564_800_000_000), "2024-05-01 12:00:00");
        assert_eq!(stamped(1_714_564_800_000_042), "2024-05-01 12:00:00.000042");
        assert_eq!(stamped(1_714_564_800_120_000), "2024-05-01 12:00:00.120000");
    }

    #[test]
    fn a_missing_file_is_named() {
        let machine = Machine::new();
        fs::remove_file(machine.0.path().join("proc/meminfo")).unwrap();
        let fault = machine.collector().sample().unwrap_err();
        assert!(fault.retry());
        assert!(fault.to_string().contains("proc/meminfo cannot be read"), "{fault}");
    }
}
