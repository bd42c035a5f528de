//! The ids of items: made of what they belong to and of their place there, so that an item has the
//! same id whenever it is told.

use crate::ids::ResponseId;

/// Which item it is: of a response or of a conversation, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemId {
    /// The response's id, or a hash of the conversation's.
    pub origin: [u8; 16],
    pub side: Side,
    pub index: u32,
}

/// On which side of a response an item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Input,
    Output,
}

/// How ids begin: of messages, calls, and the outputs of calls.
pub const LEADS: [&str; 3] = ["msg_", "fc_", "fco_"];

impl ItemId {
    /// Of the 32 bits behind the origin, this one says on which side the item stands.
    const OUTPUT: u32 = 1 << 31;

    /// `None` for what cannot be an id of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = LEADS.iter().find_map(|lead| text.strip_prefix(lead))?;
        let (origin, place) = hex.split_at_checked(32)?;
        let ResponseId(origin) = ResponseId::parse(&format!("resp_{origin}"))?;
        let bits = u32::from_str_radix(place, 16).ok()?;
        let id = Self {
            origin,
            side: if bits & Self::OUTPUT == 0 {
                Side::Input
            } else {
                Side::Output
            },
            index: bits & !Self::OUTPUT,
        };
        // Other spellings of a number are no ids.
        (place == id.place()).then_some(id)
    }

    /// The id behind one of the [`LEADS`].
    pub fn named(self, lead: &str) -> String {
        let origin = ResponseId(self.origin).to_string();
        let origin = origin.trim_start_matches("resp_");
        format!("{lead}{origin}{}", self.place())
    }

    fn place(self) -> String {
        let side = match self.side {
            Side::Input => 0,
            Side::Output => Self::OUTPUT,
        };
        format!("{:08x}", side | self.index)
    }
}

/// Gives the items of one list their ids, in order.
#[derive(Clone, Debug)]
pub struct Ids(ItemId);

impl Ids {
    pub fn new(origin: [u8; 16], side: Side) -> Self {
        Self::from(origin, side, 0)
    }

    /// The first id given is that of this place.
    pub fn from(origin: [u8; 16], side: Side, index: u32) -> Self {
        Self(ItemId {
            origin,
            side,
            index,
        })
    }

    pub fn next(&mut self, lead: &str) -> String {
        let id = self.0.named(lead);
        self.0.index = self.0.index.wrapping_add(1) & !ItemId::OUTPUT;
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_was_given() {
        for side in [Side::Input, Side::Output] {
            let id = ItemId {
                origin: [0xa7; 16],
                side,
                index: 300,
            };
            for lead in LEADS {
                assert_eq!(ItemId::parse(&id.named(lead)), Some(id));
            }
        }
    }

    #[test]
    fn the_ids_of_a_list_differ_in_their_place() {
        let mut ids = Ids::new([0xa7; 16], Side::Output);

        assert_eq!(
            [ids.next("msg_"), ids.next("fc_")],
            [
                "msg_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a780000000",
                "fc_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a780000001",
            ]
        );
    }

    #[test]
    fn what_no_one_was_given_is_no_id() {
        for text in [
            "",
            "msg_5",
            "msg_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7",
            "msg_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a78000000",
            "msg_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7+0000000",
            "msg_A7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a780000000",
            "rs_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a780000000",
            "msg_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a\u{e4}80000000",
        ] {
            assert_eq!(ItemId::parse(text), None, "{text}");
        }
    }
}
