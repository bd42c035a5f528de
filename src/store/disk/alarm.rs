//! When to look again.

use std::pin::Pin;

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that stays when it is not waited for any more. A new one that is earlier than all others, or one that is
/// set to such a moment, wakes the thread that waits for the system; one that stays costs nothing until it rings.
#[derive(Debug, Default)]
pub struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Rings then or sooner: whoever is told looks at the clock.
    pub async fn by(&mut self, then: Instant) {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(then)));
        if timer.is_elapsed() || then < timer.deadline() {
            timer.as_mut().reset(then);
        }
        timer.as_mut().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_rings_no_later_than_it_was_wanted_and_is_left_where_it_stands_for_later() {
        let (mut alarm, begun) = (Alarm::default(), Instant::now());
        let seconds = |seconds| begun + Duration::from_secs(seconds);

        assert!(
            timeout(Duration::from_secs(1), alarm.by(seconds(10)))
                .await
                .is_err()
        );
        alarm.by(seconds(3)).await;
        assert_eq!(Instant::now(), seconds(3));

        assert!(
            timeout(Duration::from_secs(1), alarm.by(seconds(10)))
                .await
                .is_err()
        );
        alarm.by(seconds(20)).await;
        assert_eq!(Instant::now(), seconds(10));
        alarm.by(seconds(20)).await;
        assert_eq!(Instant::now(), seconds(20));
    }
}
