//! Lists that are told page by page.

use serde::Serialize;

use super::Error;
use super::items::Item;

/// Which page of a list is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paging {
    limit: usize,
    order: Order,
    /// The id behind which the page begins.
    after: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Ascending,
    Descending,
}

impl Paging {
    const MOST: usize = 100;

    /// Reads a query; what it says of other things is passed over.
    pub fn read(query: &[(String, String)]) -> Result<Self, Error> {
        let mut paging = Self {
            limit: 20,
            order: Order::Descending,
            after: None,
        };
        for (name, value) in query {
            match name.as_str() {
                "limit" => {
                    let limit = value.parse().ok();
                    let limit = limit.filter(|limit| (1..=Self::MOST).contains(limit));
                    paging.limit = limit.ok_or_else(|| {
                        let most = Self::MOST;
                        Error::invalid("limit", format!("limit must be from 1 to {most}"))
                    })?;
                }
                "order" => {
                    paging.order = match value.as_str() {
                        "asc" => Order::Ascending,
                        "desc" => Order::Descending,
                        _ => return Err(Error::invalid("order", "order must be asc or desc")),
                    }
                }
                "after" => paging.after = Some(value.clone()),
                _ => {}
            }
        }
        Ok(paging)
    }

    /// The page of a list, whose items come in the order in which they were said.
    pub fn page(&self, mut items: Vec<Item>) -> Result<impl Serialize + use<>, Error> {
        if self.order == Order::Descending {
            items.reverse();
        }
        if let Some(after) = &self.after {
            let place = items.iter().position(|item| item.id() == after);
            let place = place.ok_or_else(|| {
                Error::invalid("after", "after must be the id of an item of this list")
            })?;
            items.drain(..=place);
        }
        let has_more = items.len() > self.limit;
        items.truncate(self.limit);
        Ok(Page::of(items, has_more))
    }
}

/// Items that are told at once, such as those that were added just now.
pub fn list(items: Vec<Item>) -> impl Serialize {
    Page::of(items, false)
}
#[derive(Serialize)]
struct Page {
    object: &'static str,
    data: Vec<Item>,
    first_id: String,
    last_id: String,
    has_more: bool,
}

impl Page {
    fn of(items: Vec<Item>, has_more: bool) -> Self {
        // Strict clients want a string, of an empty page too.
        let id = |item: Option<&Item>| item.map(Item::id).unwrap_or_default().to_owned();
        Self {
            object: "list",
            first_id: id(items.first()),
            last_id: id(items.last()),
            has_more,
            data: items,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str, value: &str) -> Option<String> {
        let query = [(name.to_owned(), value.to_owned())];
        let read = Paging::read(&query);
        let page = read.and_then(|paging| paging.page(Vec::new()).map(drop));
        page.err().and_then(|error| error.param)
    }

    #[test]
    fn a_page_that_cannot_be_had_is_refused_by_its_parameter() {
        for (name, value) in [
            ("limit", "0"),
            ("limit", "101"),
            ("limit", "ten"),
            ("order", "up"),
            ("after", "msg_5"),
        ] {
            assert_eq!(refused(name, value).as_deref(), Some(name), "{value}");
        }
        for (name, value) in [("limit", "100"), ("order", "desc"), ("include[]", "x")] {
            assert_eq!(refused(name, value), None);
        }
    }
}
