//! What a caller is told when there is no answer: status, type, code and whether to try again.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use serde::Serialize;

use super::refusal::Refusal;
use super::reply;
use crate::openai;
use crate::run::{self, Place};

/// Told by SDKs' own retries to be obeyed before anything else.
pub const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
pub const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// SDKs ignore longer waits.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Why a request is answered with an error, and where its turn stands.
#[derive(Clone, Debug)]
pub struct ApiError {
    fault: Fault,
    place: Option<Place>,
}

#[derive(Clone, Debug)]
enum Fault {
    Run(run::Error, KeyOwner),
    Request(openai::Error),
    Refusal(Refusal),
}

/// Whose key goes upstream: it decides who is told that the upstream refused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOwner {
    Caller,
    Proxy,
}

/// The one decision behind an error response and an error frame.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verdict {
    status: StatusCode,
    kind: &'static str,
    code: &'static str,
    param: Option<String>,
    retry: Retry,
}

/// What is said about sending the request again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    /// The status speaks for itself.
    Unsaid,
    /// It will not end better.
    Never,
    After(Duration),
    /// The same request will find its run under way.
    Attaches,
}

impl ApiError {
    pub fn run(error: run::Error, owner: KeyOwner) -> Self {
        Self {
            fault: Fault::Run(error, owner),
            place: None,
        }
    }

    pub fn at(mut self, place: Option<Place>) -> Self {
        self.place = place;
        self
    }

    pub fn code(&self) -> &'static str {
        self.fault.verdict().code
    }

    /// The body: one line of JSON.
    pub fn body(&self) -> String {
        self.fault.body(&self.fault.verdict())
    }

    pub fn message(&self) -> String {
        self.fault.message()
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self {
            fault: Fault::Refusal(refusal),
            place: None,
        }
    }
}

impl From<openai::Error> for ApiError {
    fn from(error: openai::Error) -> Self {
        Self {
            fault: Fault::Request(error),
            place: None,
        }
    }
}

/// The code of an error, beside its response, for the log.
#[derive(Clone, Copy, Debug)]
pub struct Code(pub &'static str);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let verdict = self.fault.verdict();
        let mut response = reply::json(self.fault.body(&verdict));
        *response.status_mut() = verdict.status;
        response.extensions_mut().insert(Code(verdict.code));
        let headers = response.headers_mut();
        verdict.retry.tell(headers);
        if let Fault::Refusal(refusal) = &self.fault
            && refusal.ends_connection()
        {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(place) = &self.place {
            reply::tell_place(headers, place);
        }
        response
    }
}

impl Fault {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Run(error, owner) => of_run(error, *owner),
            Self::Request(error) => of_request(error),
            Self::Refusal(refusal) => of_refusal(refusal),
        }
    }

    fn message(&self) -> String {
        match self {
            // Clients match on these words.
            Self::Run(run::Error::KeyRefused(401), KeyOwner::Caller) => {
                "Incorrect API key provided: Chat Ur Data refused it".to_owned()
            }
            Self::Run(run::Error::KeyRefused(_), KeyOwner::Proxy) => {
                "the upstream refused the key that this proxy holds".to_owned()
            }
            Self::Run(error, _) => error.to_string(),
            Self::Request(error) => error.message.clone(),
            Self::Refusal(refusal) => refusal.to_string(),
        }
    }

    fn body(&self, verdict: &Verdict) -> String {
        let envelope = Envelope {
            error: Told {
                message: &self.message(),
                kind: verdict.kind,
                param: verdict.param.as_deref(),
                code: verdict.code,
            },
        };
        serde_json::to_string(&envelope).expect("strings become JSON")
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Told<'a>,
}

#[derive(Serialize)]
struct Told<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<&'a str>,
    code: &'static str,
}

const REQUEST: &str = "invalid_request_error";
const AUTHENTICATION: &str = "authentication_error";
const PERMISSION: &str = "permission_error";
const RATE: &str = "rate_limit_error";
const SERVER: &str = "server_error";

fn of_run(error: &run::Error, owner: KeyOwner) -> Verdict {
    use run::Error as E;
    let soon = Retry::After(Duration::from_secs(1));
    let (status, kind, code, retry) = match error {
        E::NoConversation(_) => (404, REQUEST, "conversation_not_found", Retry::Unsaid),
        E::NoResponse(_) => (404, REQUEST, "response_not_found", Retry::Unsaid),
        E::NotFollowable(..) | E::OutOfSight(_) => (400, REQUEST, "invalid_value", Retry::Unsaid),
        E::KeyReused => (422, REQUEST, "idempotency_key_reused", Retry::Unsaid),
        E::TooManyWaiting => {
            let wait = Retry::After(Duration::from_secs(5));
            (429, RATE, "too_many_waiting", wait)
        }
        E::TooManyRuns => {
            let wait = Retry::After(Duration::from_secs(5));
            (429, RATE, "too_many_waiting", wait)
        }
        E::Overloaded => {
            let wait = Retry::After(Duration::from_secs(5));
            (503, SERVER, "overloaded", wait)
        }
        E::Refused(_) => (400, REQUEST, "upstream_refused", Retry::Unsaid),
        E::KeyRefused(status) => match (owner, status) {
            (KeyOwner::Proxy, _) => (502, SERVER, "upstream_key_refused", Retry::Never),
            (KeyOwner::Caller, 403) => (403, PERMISSION, "upstream_forbidden", Retry::Unsaid),
            (KeyOwner::Caller, _) => (401, AUTHENTICATION, "invalid_api_key", Retry::Unsaid),
        },
        E::RateLimited(wait) => {
            let wait = Retry::After(wait.unwrap_or(Duration::from_secs(10)));
            (429, RATE, "rate_limit_exceeded", wait)
        }
        E::Unreachable => (502, SERVER, "upstream_unreachable", soon),
        E::Failing(wait) => (502, SERVER, "upstream_unreachable", Retry::After(*wait)),
        E::OutcomeUnknown => (502, SERVER, "upstream_outcome_unknown", Retry::Never),
        E::Upstream { posted: true, .. } => (502, SERVER, "upstream_error", Retry::Never),
        E::Upstream { posted: false, .. } => (502, SERVER, "upstream_error", soon),
        E::Unformed(_) => (502, SERVER, "structured_output_failed", Retry::Never),
        E::Failed(_) => (502, SERVER, "run_failed", Retry::Never),
        E::Cancelled(_) => (502, SERVER, "run_cancelled", Retry::Never),
        E::Expired => (504, SERVER, "run_expired", Retry::Never),
        E::Timeout => (504, SERVER, "run_timeout", Retry::Attaches),
        E::ShuttingDown => (503, SERVER, "shutting_down", soon),
        E::StateUnwritable => {
            let wait = Retry::After(Duration::from_secs(30));
            (503, SERVER, "state_unwritable", wait)
        }
        E::Internal => (500, SERVER, "internal_error", Retry::Never),
    };
    Verdict::new(status, kind, code).retry(retry)
}

fn of_request(error: &openai::Error) -> Verdict {
    let (status, code) = match error.reason {
        openai::Reason::InvalidValue => (400, "invalid_value"),
        openai::Reason::Unsupported => (400, "unsupported_parameter"),
        openai::Reason::UnknownModel => (404, "model_not_found"),
        openai::Reason::UnknownResponse => (404, "response_not_found"),
    };
    Verdict::new(status, REQUEST, code).param(error.param.as_deref())
}

fn of_refusal(refusal: &Refusal) -> Verdict {
    let verdict = Verdict::new;
    match refusal {
        Refusal::Syntax(_) | Refusal::BrokenBody => verdict(400, REQUEST, "invalid_json"),
        Refusal::Value { param, .. } => {
            verdict(400, REQUEST, "invalid_value").param(param.as_deref())
        }
        Refusal::Unsupported { param, .. } => {
            verdict(400, REQUEST, "unsupported_parameter").param(Some(param))
        }
        Refusal::HostCount(_) => verdict(400, REQUEST, "invalid_value").param(Some("Host")),
        Refusal::Host(_) => verdict(403, PERMISSION, "host_not_allowed"),
        Refusal::Origin(_) => verdict(403, PERMISSION, "origin_not_allowed"),
        Refusal::Credentials(_) => {
            verdict(400, REQUEST, "invalid_value").param(Some("Authorization"))
        }
        Refusal::MissingKey => verdict(401, AUTHENTICATION, "missing_api_key"),
        Refusal::WrongKey(_) => verdict(401, AUTHENTICATION, "invalid_api_key"),
        Refusal::TooManyWrongKeys(wait) => {
            verdict(429, RATE, "rate_limit_exceeded").retry(Retry::After(*wait))
        }
        Refusal::NoResponse(_) => verdict(404, REQUEST, "response_not_found"),
        Refusal::NoConversation(_) => verdict(404, REQUEST, "conversation_not_found"),
        Refusal::NoItem(_) => verdict(404, REQUEST, "item_not_found"),
        Refusal::Full(_) => verdict(429, RATE, "rate_limit_exceeded").retry(Retry::Never),
        Refusal::Route(_) => verdict(404, REQUEST, "unknown_route"),
        Refusal::Method(_) => verdict(405, REQUEST, "method_not_allowed"),
        Refusal::MediaType(_) => verdict(415, REQUEST, "unsupported_media_type"),
        Refusal::TooLarge(_) => verdict(413, REQUEST, "request_too_large"),
        Refusal::HeadTooLarge { .. } => verdict(431, REQUEST, "headers_too_large"),
        Refusal::SlowBody => verdict(408, REQUEST, "request_timeout"),
        Refusal::TooManyWaiting(wait) => {
            verdict(429, RATE, "too_many_waiting").retry(Retry::After(*wait))
        }
        Refusal::Overloaded(wait) => verdict(503, SERVER, "overloaded").retry(Retry::After(*wait)),
        Refusal::Panic => verdict(500, SERVER, "internal_error").retry(Retry::Never),
    }
}

impl Verdict {
    fn new(status: u16, kind: &'static str, code: &'static str) -> Self {
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            kind,
            code,
            param: None,
            retry: Retry::Unsaid,
        }
    }

    fn param(mut self, param: Option<&str>) -> Self {
        self.param = param.map(str::to_owned);
        self
    }

    fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }
}

impl Retry {
    fn tell(self, headers: &mut HeaderMap) {
        let wait = match self {
            Self::Unsaid => return,
            Self::Never => {
                headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
                return;
            }
            Self::After(wait) => wait.min(LONGEST_WAIT),
            Self::Attaches => {
                headers.insert(SHOULD_RETRY, HeaderValue::from_static("true"));
                Duration::from_millis(200)
            }
        };
        let seconds = wait.as_secs_f64().ceil().max(1.0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds as u64));
        if wait <= Duration::from_secs(1) {
            let millis = u64::try_from(wait.as_millis()).unwrap_or(1000).max(1);
            headers.insert(RETRY_AFTER_MS, HeaderValue::from(millis));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn shown(error: &ApiError) -> String {
        let response = error.clone().into_response();
        let mut line = response.status().as_u16().to_string();
        for name in [
            "x-should-retry",
            "retry-after",
            "retry-after-ms",
            "connection",
        ] {
            if let Some(value) = response.headers().get(name) {
                write!(line, " {name}={}", value.to_str().unwrap()).unwrap();
            }
        }
        line.push(' ');
        line.push_str(&error.body());
        line
    }

    fn upstream(what: &str, posted: bool) -> run::Error {
        let what = what.to_owned();
        run::Error::Upstream { what, posted }
    }

    #[test]
    fn every_end_of_a_run_is_told_as_the_table_says() {
        let words = || "no table orders".to_owned();
        let garbled = |posted| upstream("no table orders", posted);
        let ends = [
            run::Error::NoConversation("conv_1".to_owned()),
            run::Error::NoResponse("resp_1".to_owned()),
            run::Error::KeyReused,
            run::Error::TooManyWaiting,
            run::Error::TooManyRuns,
            run::Error::Overloaded,
            run::Error::Refused(words()),
            run::Error::KeyRefused(401),
            run::Error::KeyRefused(403),
            run::Error::RateLimited(None),
            run::Error::RateLimited(Some(Duration::from_secs(600))),
            run::Error::Unreachable,
            run::Error::Failing(Duration::from_millis(3200)),
            run::Error::OutcomeUnknown,
            garbled(false),
            garbled(true),
            run::Error::Unformed(words()),
            run::Error::Failed(words()),
            run::Error::Cancelled(words()),
            run::Error::Expired,
            run::Error::Timeout,
            run::Error::ShuttingDown,
            run::Error::StateUnwritable,
            run::Error::Internal,
        ];

        let told = ends.map(|end| shown(&ApiError::run(end, KeyOwner::Caller)));

        insta::assert_snapshot!(told.join("\n"), @r#"
        404 {"error":{"message":"there is no conversation conv_1 here, and the request carries no history to begin it anew","type":"invalid_request_error","param":null,"code":"conversation_not_found"}}
        404 {"error":{"message":"there is no response resp_1 here","type":"invalid_request_error","param":null,"code":"response_not_found"}}
        422 {"error":{"message":"this Idempotency-Key was used for another request","type":"invalid_request_error","param":null,"code":"idempotency_key_reused"}}
        429 retry-after=5 {"error":{"message":"too many requests wait for this conversation","type":"rate_limit_error","param":null,"code":"too_many_waiting"}}
        429 retry-after=5 {"error":{"message":"too many runs of this key are under way","type":"rate_limit_error","param":null,"code":"too_many_waiting"}}
        503 retry-after=5 {"error":{"message":"the proxy has as much to do as it can bear","type":"server_error","param":null,"code":"overloaded"}}
        400 {"error":{"message":"the upstream refused the message: no table orders","type":"invalid_request_error","param":null,"code":"upstream_refused"}}
        401 {"error":{"message":"Incorrect API key provided: Chat Ur Data refused it","type":"authentication_error","param":null,"code":"invalid_api_key"}}
        403 {"error":{"message":"the upstream refused the key with status 403","type":"permission_error","param":null,"code":"upstream_forbidden"}}
        429 retry-after=10 {"error":{"message":"the upstream takes no more requests at the moment","type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"}}
        429 retry-after=60 {"error":{"message":"the upstream takes no more requests at the moment","type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"}}
        502 retry-after=1 retry-after-ms=1000 {"error":{"message":"the upstream could not be reached","type":"server_error","param":null,"code":"upstream_unreachable"}}
        502 retry-after=4 {"error":{"message":"the upstream has been failing; nothing was sent","type":"server_error","param":null,"code":"upstream_unreachable"}}
        502 x-should-retry=false {"error":{"message":"it is not known whether the upstream took the message; it was not sent again","type":"server_error","param":null,"code":"upstream_outcome_unknown"}}
        502 retry-after=1 retry-after-ms=1000 {"error":{"message":"the upstream gave no usable answer: no table orders","type":"server_error","param":null,"code":"upstream_error"}}
        502 x-should-retry=false {"error":{"message":"the upstream gave no usable answer: no table orders","type":"server_error","param":null,"code":"upstream_error"}}
        502 x-should-retry=false {"error":{"message":"the answer is not in the form that was asked for: no table orders","type":"server_error","param":null,"code":"structured_output_failed"}}
        502 x-should-retry=false {"error":{"message":"the run failed: no table orders","type":"server_error","param":null,"code":"run_failed"}}
        502 x-should-retry=false {"error":{"message":"the run was cancelled: no table orders","type":"server_error","param":null,"code":"run_cancelled"}}
        504 x-should-retry=false {"error":{"message":"the run expired","type":"server_error","param":null,"code":"run_expired"}}
        504 x-should-retry=true retry-after=1 retry-after-ms=200 {"error":{"message":"the answer has not come yet; send the same request again to collect it","type":"server_error","param":null,"code":"run_timeout"}}
        503 retry-after=1 retry-after-ms=1000 {"error":{"message":"the proxy is shutting down","type":"server_error","param":null,"code":"shutting_down"}}
        503 retry-after=30 {"error":{"message":"the proxy cannot write down what it is about to do, so it did not do it","type":"server_error","param":null,"code":"state_unwritable"}}
        500 x-should-retry=false {"error":{"message":"the turn ended by a fault of the proxy","type":"server_error","param":null,"code":"internal_error"}}
        "#);
    }

    #[test]
    fn the_proxys_own_key_is_not_the_callers_mistake() {
        for status in [401, 403] {
            let error = ApiError::run(run::Error::KeyRefused(status), KeyOwner::Proxy);

            insta::allow_duplicates! {
                insta::assert_snapshot!(shown(&error), @r#"502 x-should-retry=false {"error":{"message":"the upstream refused the key that this proxy holds","type":"server_error","param":null,"code":"upstream_key_refused"}}"#);
            }
        }
    }

    #[test]
    fn no_message_but_the_limits_own_speaks_of_a_rate_limit() {
        // One well-known client takes any error with these words for a 429.
        for error in [
            run::Error::Unreachable,
            run::Error::TooManyWaiting,
            run::Error::TooManyRuns,
            run::Error::Overloaded,
            run::Error::Timeout,
        ] {
            assert!(!error.to_string().to_lowercase().contains("rate limit"));
        }
    }

    #[test]
    fn what_stands_is_never_to_be_sent_again() {
        for error in [
            run::Error::OutcomeUnknown,
            run::Error::Failed(String::new()),
            run::Error::Cancelled(String::new()),
            run::Error::Expired,
            run::Error::Internal,
            run::Error::Upstream {
                what: String::new(),
                posted: true,
            },
        ] {
            assert!(error.stands());
            assert_eq!(of_run(&error, KeyOwner::Caller).retry, Retry::Never);
        }
    }
}
