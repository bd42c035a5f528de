//! What is asked of the resolver, and what becomes of its runs.

use proptest::prelude::*;

/// What a request carries of the past.
#[derive(Clone, Debug)]
pub enum Past {
    Opening,
    /// All that some branch holds, but for so many of the last messages.
    Of {
        which: usize,
        without: usize,
    },
    /// The last messages of some branch.
    End {
        which: usize,
        messages: usize,
    },
    /// Nobody has seen it.
    Strange(u8),
}

#[derive(Clone, Debug)]
pub enum Name {
    None,
    Own(u8),
    /// A name that was told to somebody, or was never made.
    Ours(usize),
}

#[derive(Clone, Debug)]
pub enum Op {
    Ask {
        tenant: u8,
        user: Option<u8>,
        narrow: Option<u8>,
        name: Name,
        past: Past,
        instructions: u8,
    },
    /// New text in the conversation of a name.
    Add { tenant: u8, name: Name },
    /// New text after what a branch held so many answers ago.
    Follow {
        which: usize,
        answers: usize,
        name: Name,
    },
    /// A run ends with an answer, in failure, or before anything was posted.
    End { run: usize, how: How },
}

#[derive(Clone, Copy, Debug)]
pub enum How {
    Answered,
    Failed,
    Unposted,
}

pub fn op() -> impl Strategy<Value = Op> {
    let past = prop_oneof![
        4 => Just(Past::Opening),
        6 => (0..100_usize, prop_oneof![3 => Just(0_usize), 1 => 1..5_usize])
            .prop_map(|(which, without)| Past::Of { which, without }),
        2 => (0..100_usize, 1..4_usize).prop_map(|(which, messages)| Past::End { which, messages }),
        1 => (0..3_u8).prop_map(Past::Strange),
    ];
    let given = prop_oneof![
        2 => (0..3_u8).prop_map(Name::Own),
        1 => (0..30_usize).prop_map(Name::Ours),
    ];
    let name = prop_oneof![1 => Just(Name::None), 2 => given.clone()];
    let narrow = prop_oneof![4 => Just(None), 1 => (0..2_u8).prop_map(Some)];
    let user = prop_oneof![4 => Just(None), 1 => (0..2_u8).prop_map(Some)];
    let tenant = prop_oneof![5 => Just(0_u8), 1 => Just(1_u8)];
    let (tenant_too, name_too) = (tenant.clone(), name.clone());
    let instructions = prop_oneof![4 => Just(0_u8), 1 => Just(1_u8)];
    let how =
        prop_oneof![8 => Just(How::Answered), 1 => Just(How::Failed), 1 => Just(How::Unposted)];
    prop_oneof![
        3 => (tenant, user, narrow, name, past, instructions).prop_map(
            |(tenant, user, narrow, name, past, instructions)| Op::Ask { tenant, user, narrow, name, past, instructions }
        ),
        1 => (tenant_too, given).prop_map(|(tenant, name)| Op::Add { tenant, name }),
        1 => (0..100_usize, 0..3_usize, name_too)
            .prop_map(|(which, answers, name)| Op::Follow { which, answers, name }),
        3 => (0..100_usize, how).prop_map(|(run, how)| Op::End { run, how }),
    ]
}
