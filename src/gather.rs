//! Writes several short slices as one.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};

/// As long as most heads with their bodies.
const SHORT: usize = 2048;

/// A stream on which short slices are written as one: to copy them costs less than the system does with
/// several. Longer ones are written from where they are.
#[derive(Debug)]
pub struct Gather<T>(pub T);

impl<T: Read + Unpin> Read for Gather<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<T: Write + Unpin> Write for Gather<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.0);
        if let [all] = slices {
            return stream.poll_write(context, all);
        }
        let mut room = [0; SHORT];
        match gathered(slices, &mut room) {
            Some(all) => stream.poll_write(context, all),
            None => stream.poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// All of the slices, one after the other; `None` where there is no room for them.
fn gathered<'a>(slices: &[IoSlice<'_>], room: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut end = 0;
    for slice in slices {
        let start = end;
        end += slice.len();
        room.get_mut(start..end)?.copy_from_slice(slice);
    }
    room.get(..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes at a time.
    struct Narrow {
        most: usize,
        taken: Vec<u8>,
        /// Of how many slices each write was.
        writes: Vec<usize>,
    }

    impl Write for Narrow {
        fn poll_write(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(context, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let bytes = slices.iter().flat_map(|slice| slice.iter()).copied();
            let before = self.taken.len();
            let most = self.most;
            self.taken.extend(bytes.take(most));
            self.writes.push(slices.len());
            Poll::Ready(Ok(self.taken.len() - before))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// What arrives of these parts, and of how many slices each write was.
    fn written(parts: &[&[u8]], most: usize) -> (Vec<u8>, Vec<usize>) {
        let mut stream = Gather(Narrow {
            most,
            taken: Vec::new(),
            writes: Vec::new(),
        });
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut left = slices.as_mut_slice();
        let mut context = Context::from_waker(std::task::Waker::noop());
        while !left.is_empty() {
            let Poll::Ready(Ok(taken)) =
                Pin::new(&mut stream).poll_write_vectored(&mut context, left)
            else {
                panic!("it is always ready");
            };
            IoSlice::advance_slices(&mut left, taken);
        }
        (stream.0.taken, stream.0.writes)
    }

    #[test]
    fn short_slices_are_written_as_one_and_long_ones_from_where_they_are() {
        let head = [b'h'; 200];
        for (body, writes) in [
            (0, vec![1]),
            (SHORT - head.len(), vec![1]),
            (SHORT - head.len() + 1, vec![2]),
            (10 * SHORT, vec![2]),
        ] {
            let body = vec![b'b'; body];

            let (taken, seen) = written(&[&head, &body], usize::MAX);

            assert_eq!(taken, [&head, &body[..]].concat());
            assert_eq!(seen, writes, "{} bytes", body.len());
        }
        assert_eq!(written(&[&[b'h'; 10 * SHORT]], usize::MAX).1, [1]);
    }

    #[test]
    fn nothing_is_lost_or_written_twice_where_little_is_taken_at_a_time() {
        let parts: Vec<Vec<u8>> = (0..200_u8)
            .map(|at| vec![at; usize::from(at) + 1])
            .collect();
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        for most in [1, 7, SHORT - 1, SHORT, SHORT + 1] {
            assert_eq!(written(&parts, most).0, parts.concat(), "{most} at a time");
        }
    }
}
