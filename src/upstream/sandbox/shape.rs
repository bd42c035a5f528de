//! The forms that the upstream's JSON may take, since it is not known which ones it takes.

use serde::Deserialize;

/// The form of the thread as it is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shape {
    pub order: Order,
    /// Fields that messages lack.
    pub omit: Vec<Field>,
    /// Only the newest so many messages.
    pub window: Option<usize>,
    pub run_status: StatusShape,
    pub text: TextShape,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    #[default]
    OldestFirst,
    NewestFirst,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    Id,
    Role,
    CreatedAt,
    RunId,
}

impl Field {
    pub const ALL: [Self; 4] = [Self::Id, Self::Role, Self::CreatedAt, Self::RunId];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Role => "role",
            Self::CreatedAt => "created_at",
            Self::RunId => "run_id",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusShape {
    #[default]
    Object,
    Bare,
    Missing,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextShape {
    /// `content: [{type: "text", text: {value}}]`.
    #[default]
    Value,
    /// `content: [{type: "text", text}]`.
    Bare,
    /// `content`, as text.
    Content,
}
