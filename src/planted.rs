//! Bugs planted on purpose, to see that the simulation finds them. Without the feature `planted`,
//! which nothing that is shipped has, there are none.

/// A rule that the program keeps, broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A POST without a clear answer is sent again.
    ResendsBlindly,
    /// As above, once the thread does not show the message.
    ResendsWhereAbsent,
    /// The answer is the last assistant message.
    TakesTheLastMessage,
    /// A thread that a lost message may yet reach is posted to again.
    NoQuarantine,
    /// A refusal after an attempt in doubt says that nothing was posted.
    DoubtFades,
    /// A thread may have two runs at a time.
    NoLease,
    /// A request that comes again is another request.
    NoRepeats,
    /// A run that says it has ended is believed, with or without an answer.
    NoLag,
    /// Polls follow one another at once.
    FastPolls,
    /// A restart forgets that a run is under way on a thread.
    LostLease,
    /// Tenants are not apart.
    OneTenant,
    /// Messages are posted without a record.
    NoIntent,
    /// Nothing waits until a record is written.
    NoFlush,
    /// The tip is not written down.
    LosesTips,
    /// A thread is not looked at before the first POST after a restart.
    TrustsTheDisk,
    /// What was under way at a restart is left to itself.
    NoResume,
    /// A record changes without the record that belongs to it.
    TornUnits,
    /// A response is found by whoever knows its id.
    SharedResponses,
    /// What follows on a response is posted on its thread, whatever was said there since.
    AppendsBehind,
    /// A thread may be posted to once the run on it was cancelled.
    CancelFrees,
    /// A thread is told of no form.
    FormWithheld,
    /// An answer that is not in its form is passed on.
    FormUnchecked,
    /// An answer is mended on its caller's thread.
    MendsInPlace,
    /// Another answer than the first takes the conversation's name.
    ChoicesClaim,
}

impl Bug {
    pub const ALL: [Self; 24] = [
        Self::ResendsBlindly,
        Self::ResendsWhereAbsent,
        Self::TakesTheLastMessage,
        Self::NoQuarantine,
        Self::DoubtFades,
        Self::NoLease,
        Self::NoRepeats,
        Self::NoLag,
        Self::FastPolls,
        Self::LostLease,
        Self::OneTenant,
        Self::NoIntent,
        Self::NoFlush,
        Self::LosesTips,
        Self::TrustsTheDisk,
        Self::NoResume,
        Self::TornUnits,
        Self::SharedResponses,
        Self::AppendsBehind,
        Self::CancelFrees,
        Self::FormWithheld,
        Self::FormUnchecked,
        Self::MendsInPlace,
        Self::ChoicesClaim,
    ];
}

#[cfg(feature = "planted")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug for this thread, in place of the last one.
#[cfg(feature = "planted")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

#[cfg(feature = "planted")]
pub fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

#[cfg(not(feature = "planted"))]
pub const fn is_planted(_: Bug) -> bool {
    false
}
