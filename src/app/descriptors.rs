//! File descriptors: what the settings may need, and what the system lets this process have.

use crate::config::Config;

/// For the log, the state, the runtime's own, and whatever a library opens for a moment.
const RESERVE: usize = 32;

/// Connections of callers below which a proxy is of no use.
const LEAST: usize = 8;

/// Asks the system for as many as the settings may need, and lowers the settings to what there is.
/// Returns what to warn about.
pub fn fit(config: &mut Config) -> Option<String> {
    let limit = raised_to(needed(config))?;
    fit_to(limit, config)
}

/// Through a proxy every call that is in flight may leave an idle connection behind; without one there are half
/// as many.
fn needed(config: &Config) -> usize {
    let upstream = config.upstream.max_connections.saturating_mul(2);
    let others = upstream.saturating_add(RESERVE);
    config.server.max_connections.saturating_add(others)
}

fn fit_to(limit: usize, config: &mut Config) -> Option<String> {
    let needed = needed(config);
    if needed <= limit {
        return None;
    }
    let room = limit.saturating_sub(RESERVE);
    // Callers and the upstream each get at least a third of what there is.
    let upstream = config.upstream.max_connections;
    config.upstream.max_connections = upstream.min(room / 6).max(1);
    let left = room.saturating_sub(config.upstream.max_connections * 2);
    config.server.max_connections = left.min(config.server.max_connections).max(LEAST);
    Some(format!(
        "{needed} file descriptors may be needed and this process gets {limit}: callers have {} connections and the \
         upstream {}; raise the limit (ulimit -n) or lower server.max_connections",
        config.server.max_connections, config.upstream.max_connections
    ))
}

/// How many this process may open, after asking for `wanted`; `None` where nobody says.
#[cfg(unix)]
fn raised_to(wanted: usize) -> Option<usize> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limits = getrlimit(Resource::Nofile);
    let soft = limits.current?;
    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
    if soft >= wanted {
        return usize::try_from(soft).ok();
    }
    let raised = limits.maximum.map_or(wanted, |hard| hard.min(wanted));
    limits.current = Some(raised);
    let is_raised = setrlimit(Resource::Nofile, limits).is_ok();
    usize::try_from(if is_raised { raised } else { soft }).ok()
}

#[cfg(not(unix))]
fn raised_to(_wanted: usize) -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_left_as_it_is() {
        let mut config = Config::default();

        assert_eq!(fit_to(4096 + 128 + 32, &mut config), None);
        assert_eq!(config.server.max_connections, 4096);
        assert_eq!(config.upstream.max_connections, 64);
    }

    #[test]
    fn what_does_not_fit_is_lowered_and_told() {
        for (limit, callers, upstream) in [(1024, 864, 64), (256, 150, 37), (64, 22, 5), (10, 8, 1)]
        {
            let mut config = Config::default();

            let warning = fit_to(limit, &mut config).unwrap();

            assert!(warning.contains("4256") && warning.contains(&limit.to_string()));
            let fitted = (
                config.server.max_connections,
                config.upstream.max_connections,
            );
            assert_eq!(fitted, (callers, upstream), "{limit}");
            assert!(limit < 64 || needed(&config) <= limit);
        }
    }
}
