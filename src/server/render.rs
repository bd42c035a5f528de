//! How an endpoint words what its runs report.

use std::sync::Arc;

use axum::response::Response;

use super::error::ApiError;
use super::sse::Frames;
use crate::run::{Answer, Place};

/// How an endpoint words what its runs report: as one body, or as the frames of a stream.
pub trait Render: Send + Sync + 'static {
    /// All answers, in order, as one body.
    fn body(&self, place: &Place, answers: &[Arc<Answer>]) -> Response;

    /// What a stream begins with.
    fn begin(&mut self, place: &Place, frames: &mut Frames);

    /// One answer grew.
    fn text(&mut self, index: usize, text: &str, frames: &mut Frames);

    /// Something that says nothing, where comments are not wanted.
    fn keep_alive(&mut self, frames: &mut Frames);

    /// One answer is whole.
    fn end(&mut self, index: usize, answer: &Answer, frames: &mut Frames);

    /// All answers are whole.
    fn close(&mut self, answers: &[Arc<Answer>], frames: &mut Frames);

    /// No answer comes any more.
    fn failed(&mut self, error: &ApiError, frames: &mut Frames);
}
