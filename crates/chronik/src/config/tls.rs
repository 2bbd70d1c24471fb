//! The certificates of the listener for clients. The files are read where the listener is bound.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chronik_net::TlsFiles;

use super::layer::Given;
use super::{described, names};
use crate::problem::Problem;

/// TLS between clients and brokers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientTls {
    /// What the listener shows, and whose certificates clients must have; without it the listener is plain.
    pub(crate) listener: Option<TlsFiles>,
    /// What brokers that requests are passed on to are checked with.
    pub(crate) brokers: Option<PathBuf>,
}

impl ClientTls {
    pub(super) fn resolve(settings: &mut BTreeMap<String, Given>, links: &TlsFiles) -> Result<Self, Problem> {
        let mut file = |key: &'static str| match settings.remove(key) {
            None => Ok(None),
            Some(given) => {
                let what = described(key, &given.origin);
                if given.value.trim().is_empty() {
                    return Err(Problem::new(format!("{what} is empty"), "name a PEM file, or leave the setting out"));
                }
                Ok(Some((PathBuf::from(given.value), what)))
            }
        };
        let (certificate, key) = (file(names::TLS_CERT)?, file(names::TLS_KEY)?);
        let (clients, brokers) = (file(names::TLS_CLIENT_CA)?, file(names::TLS_CA)?);
        let path = |given: Option<(PathBuf, String)>| given.map(|(path, _)| path);
        let own = match (certificate, key, &clients) {
            (Some((certificate, _)), Some((key, _)), _) => (certificate, key),
            (None, None, None) => return Ok(Self { listener: None, brokers: path(brokers) }),
            (Some((_, there)), None, _) => return Err(missing(&there, "--tls-key FILE (CHRONIK_TLS_KEY)")),
            (None, Some((_, there)), _) => return Err(missing(&there, "--tls-cert FILE (CHRONIK_TLS_CERT)")),
            (None, None, Some((_, there))) => {
                return Err(missing(there, "--tls-cert FILE and --tls-key FILE (CHRONIK_TLS_CERT, CHRONIK_TLS_KEY)"));
            }
        };
        let clients = path(clients);
        let brokers = path(brokers).or_else(|| clients.clone()).or_else(|| links.authorities.clone());
        Ok(Self { listener: Some(TlsFiles { own: Some(own), authorities: clients }), brokers })
    }

    /// What to reach other brokers' listeners with, which are encrypted where this one is.
    pub(crate) fn to_brokers(&self) -> Option<TlsFiles> {
        let listener = self.listener.as_ref()?;
        Some(TlsFiles { own: listener.own.clone(), authorities: self.brokers.clone() })
    }
}

fn missing(there: &str, missing: &str) -> Problem {
    Problem::new(
        format!("{there} is given without its other half"),
        format!("a certificate and its private key go together: add {missing}"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::layer::Origin;
    use super::*;

    fn resolved(settings: &[(&str, &str)]) -> Result<ClientTls, String> {
        let given = settings
            .iter()
            .map(|(key, value)| (key.to_string(), Given { value: value.to_string(), origin: Origin::Set }));
        let mut given = given.collect();
        let links = TlsFiles { own: None, authorities: Some("links".into()) };
        let tls = ClientTls::resolve(&mut given, &links).map_err(|problem| problem.to_string())?;
        assert!(given.is_empty(), "{given:?}");
        Ok(tls)
    }

    #[test]
    fn listener_is_plain_until_it_has_a_certificate_and_its_key() {
        assert_eq!(resolved(&[]).unwrap(), ClientTls::default());
        assert_eq!(resolved(&[(names::TLS_CA, "ca")]).unwrap().to_brokers(), None);
        let tls = resolved(&[(names::TLS_CERT, "c"), (names::TLS_KEY, "k")]).unwrap();
        let own = Some(("c".into(), "k".into()));
        assert_eq!(tls.listener, Some(TlsFiles { own, authorities: None }));
    }

    #[test]
    fn brokers_are_checked_with_their_authority_else_that_of_clients_else_that_of_links() {
        let (own, clients) = ([(names::TLS_CERT, "c"), (names::TLS_KEY, "k")], (names::TLS_CLIENT_CA, "clients"));
        for (more, expected) in [(&[clients, (names::TLS_CA, "ca")][..], "ca"), (&[clients], "clients"), (&[], "links")]
        {
            let tls = resolved(&[&own, more].concat()).unwrap();
            assert_eq!(tls.to_brokers().unwrap().authorities, Some(expected.into()));
        }
    }

    #[test]
    fn half_a_certificate_names_the_other_half() {
        for (settings, words) in [
            (&[(names::TLS_CERT, "c")][..], ["chronik.tls.cert (--set) is given without", "--tls-key FILE"]),
            (&[(names::TLS_KEY, "k")], ["chronik.tls.key (--set) is given without", "--tls-cert FILE"]),
            (&[(names::TLS_CLIENT_CA, "ca")], ["chronik.tls.client.ca (--set) is given without", "CHRONIK_TLS_CERT"]),
            (&[(names::TLS_CERT, " "), (names::TLS_KEY, "k")], ["chronik.tls.cert (--set) is empty", "PEM file"]),
        ] {
            let problem = resolved(settings).unwrap_err();
            assert!(words.iter().all(|words| problem.contains(words)), "{settings:?}: {problem}");
        }
    }
}
