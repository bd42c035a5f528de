//! What else the machine does while something is measured on it.

use std::fs;
use std::io;

/// Processor time of the whole machine, in seconds, since it was started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    busy: f64,
    /// That other machines on the same hardware took from this one.
    stolen: f64,
}

/// The shares of one processor that were taken meanwhile.
#[derive(Clone, Copy, Debug, Default)]
pub struct Foreign {
    /// By processes that do not take part.
    pub others: f64,
    pub stolen: f64,
}

impl Used {
    pub fn until_now() -> io::Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().unwrap_or_default();
        let ticks: Vec<f64> = line
            .split_whitespace()
            .skip(1)
            .filter_map(|tick| tick.parse().ok())
            .collect();
        let of =
            |places: &[usize]| places.iter().filter_map(|at| ticks.get(*at)).sum::<f64>() / 100.0;
        Ok(Self {
            // User, nice, system, and both kinds of interrupts.
            busy: of(&[0, 1, 2, 5, 6]),
            stolen: of(&[7]),
        })
    }

    /// Of what was used since `before`, in so many seconds, when those who take part have used `own`.
    pub fn foreign(self, before: Self, own: f64, seconds: f64) -> Foreign {
        Foreign {
            others: (self.busy - before.busy - own).max(0.0) / seconds,
            stolen: (self.stolen - before.stolen) / seconds,
        }
    }
}

/// One line about the machine, and how busy it is.
pub fn described() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model);
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = read("/proc/meminfo");
    let memory = memory
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse::<f64>().ok());
    let load = read("/proc/loadavg");
    let load: Vec<&str> = load.split(' ').take(3).collect();
    format!(
        "{count} x {model}, {:.0} GiB, load {}",
        memory.unwrap_or_default() / 1024.0 / 1024.0,
        load.join(" ")
    )
}
