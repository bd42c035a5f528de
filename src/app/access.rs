//! Who may use a proxy that starts like this: no combination ends with a held key open to a network.

use std::net::SocketAddr;

/// What the decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    pub listen: SocketAddr,
    pub sandbox: bool,
    /// The upstream key was given to the proxy.
    pub key_held: bool,
    /// `callers.allow_anyone`.
    pub anyone: bool,
    /// There are keys that callers can present.
    pub caller_keys: bool,
    /// Somebody can read a new key off the terminal.
    pub terminal: bool,
}

/// How the proxy lets callers in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Anyone: there is nothing to protect.
    Sandbox,
    /// Callers bring the upstream key.
    PassThrough,
    /// Callers present keys of the proxy's.
    CallerKeys,
    /// As [`Start::CallerKeys`], after the first of them is made and shown.
    FirstKey,
    /// Anyone on this machine uses the key that the proxy holds.
    Anyone,
}

/// Why the proxy does not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "--allow-anyone works on loopback alone, and {0} is beyond it: anyone there could use the upstream \
         key that the proxy holds; give callers keys instead (chaturdata-proxy keys add NAME)"
    )]
    AnyoneBeyondLoopback(SocketAddr),
    #[error(
        "the proxy holds the upstream key, so callers need keys of its own, and there are none: make one with \
         `chaturdata-proxy keys add NAME`, or give one in CHATURDATA_PROXY_CALLER_KEY or \
         CHATURDATA_PROXY_CALLER_KEY_FILE{}", if *loopback { ", or waive them with --allow-anyone" } else { "" }
    )]
    NoCallerKeys { loopback: bool },
}

pub fn access(situation: &Situation) -> Result<Start, Refusal> {
    let loopback = is_loopback(situation.listen);
    if situation.sandbox {
        Ok(Start::Sandbox)
    } else if !situation.key_held {
        Ok(Start::PassThrough)
    } else if situation.anyone && !loopback {
        Err(Refusal::AnyoneBeyondLoopback(situation.listen))
    } else if situation.anyone {
        Ok(Start::Anyone)
    } else if situation.caller_keys {
        Ok(Start::CallerKeys)
    } else if situation.terminal {
        Ok(Start::FirstKey)
    } else {
        Err(Refusal::NoCallerKeys { loopback })
    }
}

/// What is allowed, and perhaps not what was meant.
pub fn doubts(situation: &Situation) -> Vec<&'static str> {
    let mut doubts = Vec::new();
    if situation.sandbox && situation.key_held {
        doubts.push("an upstream key is given, and the sandbox never uses it");
    }
    if situation.sandbox && !is_loopback(situation.listen) {
        doubts.push("the sandbox answers everyone who can reach this address");
    }
    if !situation.sandbox && !situation.key_held && situation.anyone {
        doubts.push("--allow-anyone means nothing while callers bring the upstream key");
    }
    if !situation.sandbox && !situation.key_held && situation.caller_keys {
        doubts.push(
            "there are caller keys but no upstream key, so callers must bring the upstream key: \
             give it in CHATURDATA_API_KEY to have the proxy hold it",
        );
    }
    doubts
}

impl Start {
    /// In a few words, for the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox: simulated answers, any key or none",
            Self::PassThrough => "pass-through: callers bring the upstream key",
            Self::CallerKeys | Self::FirstKey => "held key: callers present keys of this proxy",
            Self::Anyone => "held key: anyone on this machine may call",
        }
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: &str = "127.0.0.1:8484";
    const BEYOND: &str = "0.0.0.0:8484";

    fn situation(listen: &str) -> Situation {
        Situation {
            listen: listen.parse().unwrap(),
            sandbox: false,
            key_held: false,
            anyone: false,
            caller_keys: false,
            terminal: false,
        }
    }

    /// `key` is held or not; callers have none, keys, or are anyone.
    fn cell(listen: &str, key: &str, callers: &str) -> Situation {
        Situation {
            key_held: key == "held",
            caller_keys: callers == "keys",
            anyone: callers == "anyone",
            ..situation(listen)
        }
    }

    #[test]
    fn the_start_matrix_of_bind_key_and_callers() {
        let none = |loopback| Err(Refusal::NoCallerKeys { loopback });
        let open = Err(Refusal::AnyoneBeyondLoopback(BEYOND.parse().unwrap()));
        for (listen, key, callers, expected) in [
            (LOOPBACK, "none", "none", Ok(Start::PassThrough)),
            (LOOPBACK, "none", "keys", Ok(Start::PassThrough)),
            (LOOPBACK, "none", "anyone", Ok(Start::PassThrough)),
            (LOOPBACK, "held", "none", none(true)),
            (LOOPBACK, "held", "keys", Ok(Start::CallerKeys)),
            (LOOPBACK, "held", "anyone", Ok(Start::Anyone)),
            (BEYOND, "none", "none", Ok(Start::PassThrough)),
            (BEYOND, "none", "keys", Ok(Start::PassThrough)),
            (BEYOND, "none", "anyone", Ok(Start::PassThrough)),
            (BEYOND, "held", "none", none(false)),
            (BEYOND, "held", "keys", Ok(Start::CallerKeys)),
            (BEYOND, "held", "anyone", open),
        ] {
            let situation = cell(listen, key, callers);

            assert_eq!(
                access(&situation),
                expected,
                "{listen}, key {key}, callers {callers}"
            );
        }
    }

    #[test]
    fn a_first_key_is_made_only_where_somebody_sees_it() {
        for listen in [LOOPBACK, BEYOND] {
            let seen = Situation {
                terminal: true,
                ..cell(listen, "held", "none")
            };

            assert_eq!(access(&seen), Ok(Start::FirstKey));
            assert!(
                access(&Situation {
                    terminal: false,
                    ..seen
                })
                .is_err()
            );
        }
    }

    #[test]
    fn anyone_beyond_loopback_is_refused_even_where_callers_have_keys() {
        for listen in [
            BEYOND,
            "192.168.1.2:8484",
            "[::]:8484",
            "[::ffff:192.168.1.2]:8484",
        ] {
            let situation = Situation {
                caller_keys: true,
                ..cell(listen, "held", "anyone")
            };

            assert!(access(&situation).is_err(), "{listen}");
        }
        for listen in [
            LOOPBACK,
            "127.8.8.8:1",
            "[::1]:8484",
            "[::ffff:127.0.0.1]:8484",
        ] {
            assert_eq!(
                access(&cell(listen, "held", "anyone")),
                Ok(Start::Anyone),
                "{listen}"
            );
        }
    }

    #[test]
    fn the_sandbox_wins_over_a_key_and_says_so() {
        let both = Situation {
            sandbox: true,
            ..cell(BEYOND, "held", "none")
        };

        assert_eq!(access(&both), Ok(Start::Sandbox));
        assert_eq!(doubts(&both).len(), 2);
        assert_eq!(doubts(&situation(LOOPBACK)), Vec::<&str>::new());
    }
}
