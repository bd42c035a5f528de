//! Answers as streams, from a run that shows itself in many ways.

mod beginnings;
mod cuts;
mod growth;
mod silences;

use axum::body::Body;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::time::Instant;

use crate::proxy::{Proxy, frames};
use crate::talk::Talk;

/// A stream as it came in: each frame with its time.
struct Watched {
    /// When the head came.
    begun: Instant,
    frames: Vec<(Instant, String)>,
    ended: Instant,
    broken: bool,
}

impl Watched {
    async fn of(response: Response<Body>) -> Self {
        assert_eq!(response.status(), StatusCode::OK);
        let begun = Instant::now();
        let mut body = response.into_body();
        let mut seen = Vec::new();
        let mut broken = false;
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => {
                    let bytes = frame.into_data().unwrap();
                    let text = str::from_utf8(&bytes).unwrap();
                    seen.extend(
                        frames(text)
                            .into_iter()
                            .map(|frame| (Instant::now(), frame)),
                    );
                }
                Err(_) => broken = true,
            }
        }
        Self {
            begun,
            frames: seen,
            ended: Instant::now(),
            broken,
        }
    }

    /// What somebody says, watched.
    async fn says(proxy: &Proxy, talk: &Talk<'_>, text: &str) -> Self {
        Self::of(proxy.send(talk.request(text, true)).await).await
    }

    /// Every piece of text, with the seconds from the head to it.
    fn deltas(&self) -> Vec<(u64, String)> {
        let mut deltas = Vec::new();
        for (at, frame) in &self.frames {
            let delta = chunk(frame)["choices"][0]["delta"]["content"].clone();
            if let Some(text) = delta.as_str().filter(|text| !text.is_empty()) {
                deltas.push(((*at - self.begun).as_secs(), text.to_owned()));
            }
        }
        deltas
    }

    fn text(&self) -> String {
        self.deltas().into_iter().map(|(_, text)| text).collect()
    }

    fn finish_reason(&self) -> String {
        let reasons = self.frames.iter().filter_map(|(_, frame)| {
            let reason = chunk(frame)["choices"][0]["finish_reason"].clone();
            Some(reason.as_str()?.to_owned())
        });
        reasons.collect::<Vec<_>>().join(",")
    }

    /// The code of the error that it ended in, in the one way that an error ends a stream.
    fn error(&self) -> String {
        let (_, last) = self.frames.last().unwrap();
        let code = chunk(last)["error"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let is_done = self.frames.iter().any(|(_, frame)| frame == "[DONE]");
        assert_eq!(self.broken, !code.is_empty(), "{:?}", self.frames);
        assert_eq!(is_done, code.is_empty(), "{:?}", self.frames);
        code
    }
}

/// Null where the frame is not JSON.
fn chunk(frame: &str) -> Value {
    serde_json::from_str(frame).unwrap_or_default()
}
