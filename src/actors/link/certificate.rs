//! When the certificates end that a node's links go by. rustls refuses a peer whose certificate has ended; of its own
//! nobody hears until then.

use crate::replication::transport::{CertificateEnd, CertificateOf};
use crate::types::time::Timestamp;
use der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use der::{Decode, Reader, SliceReader, Tag};
use rustls::pki_types::CertificateDer;

/// The last instant of a certificate (RFC 5280, 4.1.2.5): the second field of `validity`.
fn not_after(certificate: &CertificateDer<'_>) -> der::Result<Timestamp> {
    let mut signed = SliceReader::new(AnyRef::from_der(certificate)?.value())?;
    let mut fields = SliceReader::new(signed.decode::<AnyRef<'_>>()?.value())?;
    // The version is left out of a certificate of version 1. Serial number, algorithm and issuer come before the validity.
    let ahead = if matches!(fields.peek_tag()?, Tag::ContextSpecific { .. }) { 4 } else { 3 };
    for _ in 0..ahead {
        fields.decode::<AnyRef<'_>>()?;
    }
    let mut validity = SliceReader::new(fields.decode::<AnyRef<'_>>()?.value())?;
    validity.decode::<AnyRef<'_>>()?;
    let since_1970 = match validity.peek_tag()? {
        Tag::UtcTime => validity.decode::<UtcTime>()?.to_unix_duration(),
        _ => validity.decode::<GeneralizedTime>()?.to_unix_duration(),
    };
    Ok(Timestamp(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)))
}

/// The first end of several certificates: links need each of a node's chain. `None` when none can be read.
pub(super) fn first_end(of: CertificateOf, certificates: &[CertificateDer<'_>]) -> Option<CertificateEnd> {
    let ends = certificates.iter().filter_map(|certificate| match not_after(certificate) {
        Ok(end) => Some(end),
        Err(error) => {
            tracing::warn!(of = of.name(), %error, "nobody will be warned of the end of this certificate");
            None
        }
    });
    ends.min().map(|not_after| CertificateEnd { of, not_after })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    fn ends_in(year: i32) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["seoul-1.gifts".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 2, 28);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn the_end_is_read_of_both_forms_and_the_first_of_a_chain_counts() {
        // From 2050 on a date has another form.
        let (soon, late) = (ends_in(2029), ends_in(2051));
        let at = |text: &str| Some(Timestamp::parse_rfc3339(text).unwrap());
        assert_eq!(not_after(&soon).ok(), at("2029-02-28T00:00:00Z"));
        assert_eq!(not_after(&late).ok(), at("2051-02-28T00:00:00Z"));
        let first = first_end(CertificateOf::Node, &[late, soon.clone()]);
        assert_eq!(first.map(|end| end.not_after), at("2029-02-28T00:00:00Z"));
        assert_eq!(first_end(CertificateOf::Ca, &[]), None);
        for cut in 0..soon.len() {
            let part = CertificateDer::from(&soon[..cut]);
            assert!(not_after(&part).is_err(), "{cut} bytes");
        }
    }
}
