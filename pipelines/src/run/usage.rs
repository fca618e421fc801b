//! CPU time and peak memory of this process, as the system counts them.

/// User and system CPU seconds, children that were waited for included, and peak resident bytes.
pub(crate) fn of_this_process() -> (f64, u64) {
    (cpu_seconds().unwrap_or(0.0), peak_rss().unwrap_or(0))
}

#[cfg(target_os = "linux")]
fn cpu_seconds() -> Option<f64> {
    // Fields 14 to 17 of /proc/self/stat, counted after the name, which may hold spaces.
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(not(target_os = "linux"))]
fn cpu_seconds() -> Option<f64> {
    None
}

fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
