//! Who calls: one credential, looked for in one place, told to nobody.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{FromRef, FromRequestParts};
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use tokio::time::Instant;

use super::error::{ApiError, KeyOwner};
use super::listener::Peer;
use super::refusal::Refusal;
use crate::conversation;
use crate::conversation::salt::Salt;
use crate::ids::Tenant;
use crate::run::live::Runner;
use crate::secret::Secret;
use crate::store::callers::CallerKeys;

/// Other spellings of `Authorization: Bearer`.
const KEY_HEADERS: [HeaderName; 2] = [
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-api-key"),
];
const LONGEST_KEY: usize = 512;

/// The tenant of everyone who need not say who they are.
const ANYONE: &str = "";

/// Whose key goes upstream, and who is let in.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "it holds a key")]
pub enum Access {
    /// The key that the caller presents.
    PassThrough,
    /// The proxy's own; callers present keys of ours, unless anyone may call.
    Held {
        key: Secret,
        callers: CallerKeys,
        anyone: bool,
    },
    /// None is needed, and any is taken.
    Sandbox,
}

impl Access {
    pub fn key_owner(&self) -> KeyOwner {
        match self {
            Self::PassThrough | Self::Sandbox => KeyOwner::Caller,
            Self::Held { .. } => KeyOwner::Proxy,
        }
    }
}

/// What tells callers apart.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "it holds a key")]
pub struct Gate {
    access: Arc<Access>,
    salt: Salt,
    /// The account of the key that the proxy holds, if it holds one.
    held: Tenant,
    wrong_keys: Arc<WrongKeys>,
}

impl Gate {
    pub fn new(access: Access, salt: Salt) -> Self {
        let held = match &access {
            Access::Held { key, .. } => key.expose(),
            Access::PassThrough | Access::Sandbox => "",
        };
        let held = salt.tenant_of_key(held);
        Self {
            access: Arc::new(access),
            salt,
            held,
            wrong_keys: Arc::default(),
        }
    }

    pub fn key_owner(&self) -> KeyOwner {
        self.access.key_owner()
    }

    fn admit(
        &self,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
    ) -> Result<conversation::Caller, Refusal> {
        match &*self.access {
            Access::PassThrough => {
                let key = presented(headers)?.ok_or(Refusal::MissingKey)?;
                Ok(conversation::Caller::of_key(&self.salt, key))
            }
            Access::Held {
                key,
                callers,
                anyone,
            } => {
                let name = match presented(headers)? {
                    Some(key) => match callers.name_of(&key) {
                        Some(name) => name,
                        None if *anyone => ANYONE,
                        None => return Err(self.wrong_keys.refusal(peer)),
                    },
                    None if *anyone => ANYONE,
                    None => return Err(Refusal::MissingKey),
                };
                Ok(conversation::Caller {
                    tenant: self.salt.tenant_named(name),
                    account: self.held,
                    key: key.clone(),
                })
            }
            Access::Sandbox => {
                // Any key will do, even a text that cannot be one.
                let key = match presented(headers) {
                    Err(Refusal::WrongKey(_)) => None,
                    key => key?,
                };
                let key = key.unwrap_or_else(|| Secret::new("sandbox"));
                Ok(conversation::Caller {
                    tenant: self.salt.tenant_named(ANYONE),
                    account: self.salt.tenant_of_key(key.expose()),
                    key,
                })
            }
        }
    }

    /// Where the proxy holds the upstream's key, what it counts is not for everyone either.
    fn admit_observer(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Result<(), Refusal> {
        match &*self.access {
            Access::PassThrough | Access::Sandbox => Ok(()),
            Access::Held { .. } => self.admit(headers, peer).map(drop),
        }
    }
}

/// A caller that was let in.
#[derive(Clone)]
pub struct Caller(pub conversation::Caller);

impl Caller {
    /// Whoever sends the request, if it is let in.
    pub fn of<S>(parts: &Parts, state: &S) -> Result<Self, Refusal>
    where
        Gate: FromRef<S>,
        Runner: FromRef<S>,
    {
        // Whoever was let in by a layer before need not be asked again.
        if let Some(caller) = parts.extensions.get::<Self>() {
            return Ok(caller.clone());
        }
        let caller = Gate::from_ref(state).admit(&parts.headers, peer(parts))?;
        // No key outlives the process: what was under way goes on once its key is here again.
        Runner::from_ref(state).resume(&caller);
        Ok(Self(caller))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller
where
    Gate: FromRef<S>,
    Runner: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Ok(Self::of(parts, state)?)
    }
}

/// Someone who may see what the program counts.
#[derive(Clone, Copy, Debug)]
pub struct Observer;

impl<S: Send + Sync> FromRequestParts<S> for Observer
where
    Gate: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Gate::from_ref(state).admit_observer(&parts.headers, peer(parts))?;
        Ok(Self)
    }
}

fn peer(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<Peer>().map(|peer| peer.0.ip())
}

/// The one credential of a request, if there is any.
fn presented(headers: &HeaderMap) -> Result<Option<Secret>, Refusal> {
    let mut authorizations = headers.get_all(AUTHORIZATION).iter();
    let authorization = authorizations.next();
    if authorizations.next().is_some() {
        return Err(Refusal::Credentials(
            "there is more than one Authorization header",
        ));
    }
    let mut keys: Vec<&[u8]> = Vec::new();
    keys.extend(authorization.and_then(bearer));
    for name in &KEY_HEADERS {
        keys.extend(headers.get_all(name).iter().map(HeaderValue::as_bytes));
    }
    keys.retain(|key| !key.is_empty());
    let Some((key, others)) = keys.split_first() else {
        return Ok(None);
    };
    if others.iter().any(|other| other != key) {
        return Err(Refusal::Credentials("there are two different API keys"));
    }
    if key.len() > LONGEST_KEY || !key.iter().all(u8::is_ascii_graphic) {
        return Err(Refusal::WrongKey("it is not the text of a key"));
    }
    Ok(str::from_utf8(key).ok().map(Secret::new))
}

/// What follows `Bearer`. Another scheme is not ours: a proxy before us may have put it there.
pub fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let value = value.as_bytes();
    let (scheme, key) = value.split_at_checked("Bearer".len())?;
    let key = key.trim_ascii();
    let separated = value.get(scheme.len()).is_none_or(u8::is_ascii_whitespace);
    (scheme.eq_ignore_ascii_case(b"Bearer") && separated).then_some(key)
}

/// Wrong keys by address, within the last minute. A right key is let in whatever came before:
/// other callers may share the address.
#[derive(Debug, Default)]
struct WrongKeys(Mutex<HashMap<IpAddr, Tries>>);

#[derive(Debug)]
struct Tries {
    since: Instant,
    count: u32,
}

impl WrongKeys {
    const WINDOW: Duration = Duration::from_secs(60);
    const MOST: u32 = 10;
    const ADDRESSES: usize = 1024;

    fn refusal(&self, peer: Option<IpAddr>) -> Refusal {
        let wrong = Refusal::WrongKey("this proxy does not know it");
        let Some(peer) = peer else {
            return wrong;
        };
        let now = Instant::now();
        let mut tries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tries.len() >= Self::ADDRESSES {
            tries.retain(|_, tries| now - tries.since < Self::WINDOW);
        }
        if tries.len() >= Self::ADDRESSES && !tries.contains_key(&peer) {
            return wrong;
        }
        let own = tries.entry(peer).or_insert(Tries {
            since: now,
            count: 0,
        });
        if now - own.since >= Self::WINDOW {
            *own = Tries {
                since: now,
                count: 0,
            };
        }
        own.count = own.count.saturating_add(1);
        if own.count > Self::MOST {
            return Refusal::TooManyWrongKeys(own.since + Self::WINDOW - now);
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn key_of(pairs: &[(&'static str, &str)]) -> Result<Option<String>, &'static str> {
        match presented(&headers(pairs)) {
            Ok(key) => Ok(key.map(|key| key.expose().to_owned())),
            Err(Refusal::Credentials(_)) => Err("two"),
            Err(Refusal::WrongKey(_)) => Err("wrong"),
            Err(_) => Err("other"),
        }
    }

    #[test]
    fn a_key_is_found_in_any_of_its_three_places() {
        let key = Ok(Some("sk-1".to_owned()));

        assert_eq!(key_of(&[("authorization", "Bearer sk-1")]), key);
        assert_eq!(key_of(&[("authorization", "bearer sk-1")]), key);
        assert_eq!(key_of(&[("authorization", "BEARER   sk-1 ")]), key);
        assert_eq!(key_of(&[("api-key", "sk-1")]), key);
        assert_eq!(key_of(&[("x-api-key", "sk-1")]), key);
        assert_eq!(
            key_of(&[("authorization", "Bearer sk-1"), ("api-key", "sk-1")]),
            key
        );
    }

    #[test]
    fn what_is_no_bearer_is_no_key() {
        for value in [
            "",
            "Bearer",
            "Bearer ",
            "Basic c2stMQ==",
            "Bearersk-1",
            "sk-1",
        ] {
            assert_eq!(key_of(&[("authorization", value)]), Ok(None), "{value}");
        }
    }

    #[test]
    fn two_keys_are_none() {
        let two = Err("two");

        assert_eq!(
            key_of(&[("authorization", "Bearer a"), ("authorization", "Bearer a")]),
            two
        );
        assert_eq!(
            key_of(&[("authorization", "Bearer a"), ("api-key", "b")]),
            two
        );
        assert_eq!(key_of(&[("api-key", "a"), ("api-key", "b")]), two);
        assert_eq!(key_of(&[("api-key", "a"), ("x-api-key", "b")]), two);
    }

    #[test]
    fn a_key_is_visible_ascii_and_not_long() {
        assert_eq!(key_of(&[("authorization", "Bearer a b")]), Err("wrong"));
        assert_eq!(
            key_of(&[("authorization", "Bearer schlüssel")]),
            Err("wrong")
        );
        assert_eq!(key_of(&[("api-key", &"k".repeat(513))]), Err("wrong"));
        assert!(key_of(&[("api-key", &"k".repeat(512))]).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_keys_from_one_address_are_counted_by_the_minute() {
        let wrong_keys = WrongKeys::default();
        let one = Some(IpAddr::from([127, 0, 0, 1]));
        let other = Some(IpAddr::from([127, 0, 0, 2]));

        for _ in 0..10 {
            assert!(matches!(wrong_keys.refusal(one), Refusal::WrongKey(_)));
        }

        assert!(matches!(
            wrong_keys.refusal(one),
            Refusal::TooManyWrongKeys(_)
        ));
        assert!(matches!(wrong_keys.refusal(other), Refusal::WrongKey(_)));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(matches!(wrong_keys.refusal(one), Refusal::WrongKey(_)));
    }
}
