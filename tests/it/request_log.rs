//! What a request leaves in the log: one line, and nothing that the caller would not want there.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, Once};

use chaturdata_proxy::app::log::json::Json;
use http_body_util::BodyExt;
use serde_json::Value;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::proxy::{Proxy, Setup, asking, prompt, request, stream_request};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

thread_local! {
    static COLLECTED: RefCell<Option<Lines>> = const { RefCell::new(None) };
}

/// Ends the collecting.
struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        COLLECTED.set(None);
    }
}

/// One subscriber for all threads, which asks at each event whether its thread collects: whether
/// anyone listens to a place is kept for all threads by whichever comes there first.
fn subscribe() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let collects = dynamic_filter_fn(|_, _| COLLECTED.with_borrow(Option::is_some));
        let collect = |line: &[u8]| {
            if let Some(Lines(lines)) = COLLECTED.with_borrow(Clone::clone) {
                lines.lock().unwrap().extend_from_slice(line);
            }
        };
        let lines = Json(collect).with_filter(collects);
        tracing_subscriber::registry().with(lines).init();
    });
}

impl Lines {
    /// Collects what this thread logs, at the most verbose level, while the guard lives.
    fn collected() -> (Self, Guard) {
        subscribe();
        let lines = Self::default();
        COLLECTED.set(Some(lines.clone()));
        (lines, Guard)
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The line of each request.
    fn requests(&self) -> Vec<Value> {
        self.text()
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|line| line["target"] == "chaturdata_proxy::request")
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_leaves_one_line_that_names_it() {
    let (lines, _guard) = Lines::collected();
    let proxy = Proxy::start(Setup::default());
    let headers = [
        ("content-type", "application/json"),
        ("x-request-id", "mine"),
        (
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ),
    ];

    proxy
        .ask(request(
            "POST",
            "/v1/chat/completions",
            &headers,
            &asking("hello").to_string(),
        ))
        .await;

    let requests = lines.requests();
    assert_eq!(requests.len(), 1);
    let line = &requests[0];
    assert_eq!(line["request.id"], "mine");
    assert_eq!(line["trace.id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(line["method"], "POST");
    assert_eq!(line["route"], "/v1/chat/completions");
    assert_eq!(line["status"], 200);
    assert_eq!(line["decision"], "created");
    assert!(line["polls"].as_u64().unwrap() >= 1, "{line}");
    assert!(line["duration_ms"].as_u64().unwrap() >= 2000, "{line}");
    assert!(line["hung_up"].is_null(), "{line}");
}

#[tokio::test(start_paused = true)]
async fn an_error_is_named_by_its_code_whether_as_a_status_or_in_a_stream() {
    let (lines, _guard) = Lines::collected();
    let proxy = Proxy::start(Setup::default());

    proxy.chat(prompt::FAILS).await;
    proxy.stream(prompt::FAILS_HALFWAY).await;
    proxy.get("/nowhere").await;

    let requests = lines.requests();
    let codes: Vec<&str> = requests
        .iter()
        .filter_map(|line| line["error.code"].as_str())
        .collect();
    assert_eq!(codes, ["run_failed", "run_failed", "unknown_route"]);
    assert_eq!(requests[2]["route"], "none");
}

#[tokio::test(start_paused = true)]
async fn a_hang_up_is_noted_before_an_answer_and_within_one() {
    let (lines, _guard) = Lines::collected();
    let proxy = Proxy::start(Setup::default());

    let waiting = proxy.chat(prompt::SILENT);
    assert!(
        tokio::time::timeout(std::time::Duration::from_secs(9), waiting)
            .await
            .is_err()
    );
    let mut stream = proxy.send(stream_request(prompt::SILENT)).await.into_body();
    stream.frame().await.unwrap().unwrap();
    drop(stream);

    let requests = lines.requests();
    assert_eq!(requests.len(), 2);
    assert!(
        requests.iter().all(|line| line["hung_up"] == true),
        "{requests:?}"
    );
    assert!(requests[0]["status"].is_null());
    assert_eq!(requests[1]["status"], 200);
    assert!(
        requests.iter().all(|line| line["decision"] == "created"),
        "{requests:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn no_text_no_key_and_no_query_is_logged() {
    let (lines, _guard) = Lines::collected();
    let proxy = Proxy::holding_a_key();
    let headers = [
        ("content-type", "application/json"),
        ("authorization", "Bearer sk-caller"),
    ];
    let body = asking("a-secret-question").to_string();

    proxy
        .ask(request(
            "POST",
            "/v1/chat/completions?q=a-secret-query",
            &headers,
            &body,
        ))
        .await;
    let wrong = [("authorization", "Bearer sk-secret-wrong")];
    proxy
        .ask(request("GET", "/v1/models/a-secret-model", &wrong, ""))
        .await;
    proxy.get("/a-secret-path?api-key=sk-secret-key").await;

    let text = lines.text();
    assert_eq!(lines.requests().len(), 3);
    for secret in ["a-secret", "sk-caller", "sk-upstream", "sk-secret"] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
}
