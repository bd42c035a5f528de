//! `/v1/conversations`: what callers note on their conversations and add to them, and what those hold.

use axum::Json;
use axum::extract::{FromRef, FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;

use super::auth::{Caller, Gate};
use super::error::ApiError;
use super::exchange::Delivery;
use super::extract::{Asked, Segment, WireJson};
use super::refusal::Refusal;
use super::{random_bytes, reply, seconds, shown};
use crate::conversation::{self, Message, Role};
use crate::ids::Handle;
use crate::openai::conversations::{self, ConversationRequest};
use crate::openai::items::{Ids, Item, Side};
use crate::openai::list::{Paging, list};
use crate::openai::messages::Entry;
use crate::openai::metadata::Metadata;
use crate::openai::names::LONGEST;
use crate::openai::render::json;
use crate::run::items::{self, NotKept};
use crate::run::live::Runner;
use crate::run::notes::Pending;

pub async fn create(
    State(runner): State<Runner>,
    wire: Box<WireJson<ConversationRequest>>,
) -> Result<Response, ApiError> {
    let WireJson {
        envelope, request, ..
    } = *wire;
    let (metadata, entries) = request.into_beginning()?;
    let caller = envelope.caller;
    let noted = (!metadata.is_empty()).then(|| json(&metadata).into());
    let made = runner.create_conversation(&caller, seconds(), noted, pending(entries));
    let handle = made.await.map_err(|why| not_kept(why, ""))?;
    Known {
        runner,
        caller,
        handle,
    }
    .shown()
}

pub async fn find(known: Known) -> Result<Response, ApiError> {
    known.shown()
}

pub async fn describe(
    known: Known,
    wire: Box<WireJson<ConversationRequest>>,
) -> Result<Response, ApiError> {
    let metadata = json(&wire.request.into_metadata()?);
    let Known {
        runner,
        caller,
        handle,
    } = &known;
    let described = runner.describe_conversation(caller, handle, metadata.into());
    described.map_err(|why| not_kept(why, &handle.0))?;
    known.shown()
}

pub async fn delete(known: Known) -> Result<Response, ApiError> {
    if !known
        .runner
        .forget_conversation(&known.caller, &known.handle)
    {
        return Err(unknown(&known.handle.0));
    }
    known.runner.flushed().await;
    Ok(known.tell(Json(conversations::deleted(&known.handle.0)).into_response()))
}

pub async fn items(
    State(delivery): State<Delivery>,
    known: Known,
    Asked(query): Asked,
) -> Result<Response, ApiError> {
    let paging = Paging::read(&query)?;
    let page = paging.page(known.items(&delivery).await?)?;
    Ok(known.tell(Json(page).into_response()))
}

pub async fn add_items(
    known: Known,
    wire: Box<WireJson<ConversationRequest>>,
) -> Result<Response, ApiError> {
    let pending = pending(wire.request.into_entries()?);
    let added = pending.iter().flat_map(read).collect();
    let Known {
        runner,
        caller,
        handle,
    } = &known;
    let kept = runner.add_items(caller, handle, pending);
    kept.map_err(|why| not_kept(why, &handle.0))?;
    Ok(known.tell(Json(list(added)).into_response()))
}

pub async fn item(
    State(delivery): State<Delivery>,
    known: Known,
    Segment((_, id)): Segment<(String, String)>,
) -> Result<Response, ApiError> {
    let mut items = known.items(&delivery).await?.into_iter();
    let item = items.find(|item| item.id() == id);
    let item = item.ok_or_else(|| no_item(&id))?;
    Ok(known.tell(Json(item).into_response()))
}

pub async fn drop_item(
    State(delivery): State<Delivery>,
    known: Known,
    Segment((_, id)): Segment<(String, String)>,
) -> Result<Response, ApiError> {
    let is_meant = |pending: &Pending| read(pending).iter().any(|item| item.id() == id);
    if known
        .runner
        .drop_items(&known.caller, &known.handle, is_meant)
    {
        return known.shown();
    }
    let items = known.items(&delivery).await?;
    if !items.iter().any(|item| item.id() == id) {
        return Err(no_item(&id));
    }
    Err(ApiError::from(Refusal::Unsupported {
        message: "this item is posted, and nothing can be taken out of a thread".to_owned(),
        param: "item_id".to_owned(),
    }))
}

/// Items as they wait to be posted. Instructions among them are said by the user: a transcript knows
/// nobody else who gives any.
fn pending(entries: Vec<Entry>) -> Vec<Pending> {
    let pending = entries.into_iter().map(|entry| {
        let mut ids = Ids::new(random_bytes(), Side::Input);
        let shown = json(&Item::of(&entry, &mut ids)).into();
        let message: Message = match entry {
            Entry::Said(message) => message,
            Entry::Instructions(_, text) => Message::said(Role::User, text),
        };
        Pending {
            message: Some(message),
            shown,
        }
    });
    pending.collect()
}

fn read(pending: &Pending) -> Vec<Item> {
    serde_json::from_str(&pending.shown).unwrap_or_default()
}

/// A conversation that is there, for the caller whose it is.
#[derive(Debug)]
pub struct Known {
    runner: Runner,
    caller: conversation::Caller,
    handle: Handle,
}

impl<S: Send + Sync> FromRequestParts<S> for Known
where
    Gate: FromRef<S>,
    Runner: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Caller(caller) = Caller::from_request_parts(parts, state).await?;
        let Segment(fields) =
            Segment::<Vec<(String, String)>>::from_request_parts(parts, state).await?;
        let name = fields.into_iter().find(|(field, _)| field == "id");
        let name = name.map(|(_, name)| name).unwrap_or_default();
        let known = Self {
            runner: Runner::from_ref(state),
            caller,
            handle: Handle(name.as_str().into()),
        };
        let is_known = name.len() <= LONGEST && known.noted().is_some();
        if is_known {
            Ok(known)
        } else {
            Err(unknown(&name))
        }
    }
}

impl Known {
    fn noted(&self) -> Option<items::Conversation> {
        self.runner.conversation(&self.caller, &self.handle)
    }

    fn shown(&self) -> Result<Response, ApiError> {
        let id = &self.handle.0;
        let noted = self.noted().ok_or_else(|| unknown(id))?;
        let metadata: Option<Metadata> = noted
            .metadata
            .and_then(|metadata| serde_json::from_str(&metadata).ok());
        let metadata = metadata.unwrap_or_default();
        let body = conversations::conversation(id, noted.created, &metadata);
        Ok(self.tell(Json(body).into_response()))
    }

    async fn items(&self, delivery: &Delivery) -> Result<Vec<Item>, ApiError> {
        let items = self.runner.items(&self.caller, &self.handle).await;
        let items = items.map_err(|error| delivery.told(error))?;
        let shown = items.into_iter().flat_map(|item| match item {
            items::Item::Shown { key, message, .. } => {
                Item::of(&Entry::Said(message), &mut Ids::new(key, Side::Input))
            }
            items::Item::Pending(pending) => read(&pending),
        });
        Ok(shown.collect())
    }

    fn tell(&self, mut response: Response) -> Response {
        reply::tell_conversation(response.headers_mut(), &self.handle.0);
        response
    }
}

fn not_kept(why: NotKept, name: &str) -> ApiError {
    match why {
        NotKept::Unknown => unknown(name),
        NotKept::Full(full) => Refusal::Full(full).into(),
    }
}

/// Told alike, whether the id is nobody's or another tenant's.
fn unknown(name: &str) -> ApiError {
    Refusal::NoConversation(shown(name)).into()
}

fn no_item(id: &str) -> ApiError {
    Refusal::NoItem(shown(id)).into()
}
