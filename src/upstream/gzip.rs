//! Answers that come zipped, unzipped up to a bound.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;

/// `None` where more than `max` bytes come out.
pub fn unzipped(body: &[u8], max: usize) -> io::Result<Option<Bytes>> {
    let mut text = Vec::new();
    let bound = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    MultiGzDecoder::new(body)
        .take(bound)
        .read_to_end(&mut text)?;
    Ok((text.len() <= max).then(|| text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unzipping_stops_at_the_bound() {
        let mut zipped = Vec::new();
        flate2::read::GzEncoder::new(&[7_u8; 5000][..], flate2::Compression::best())
            .read_to_end(&mut zipped)
            .unwrap();

        assert_eq!(unzipped(&zipped, 5000).unwrap().unwrap().len(), 5000);
        assert!(unzipped(&zipped, 4999).unwrap().is_none());
        assert!(unzipped(&zipped[..20], 5000).is_err());
    }
}
