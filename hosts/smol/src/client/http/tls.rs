//! TLS by rustls with ring; the trusted roots are Mozilla's.

use std::io;
use std::net::TcpStream;
use std::sync::{Arc, OnceLock};

use futures_rustls::TlsConnector;
use futures_rustls::client::TlsStream;
use futures_rustls::rustls::crypto::ring;
use futures_rustls::rustls::pki_types::UnixTime;
use futures_rustls::rustls::time_provider::TimeProvider;
use futures_rustls::rustls::{ClientConfig, RootCertStore};
use smol::Async;

use crate::clock::time_of_day;

pub(super) async fn connect(
    host: &str,
    tcp: Async<TcpStream>,
) -> io::Result<TlsStream<Async<TcpStream>>> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let config = match CONFIG.get() {
        Some(config) => config.clone(),
        None => CONFIG.get_or_init(|| config().into()).clone(),
    };
    let name = host.to_owned().try_into().map_err(io::Error::other)?;
    TlsConnector::from(config).connect(name, tcp).await
}

fn config() -> ClientConfig {
    let roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    ClientConfig::builder_with_details(ring::default_provider().into(), Arc::new(OurClock))
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// The clock by which certificates are valid or not.
#[derive(Debug)]
struct OurClock;

impl TimeProvider for OurClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(time_of_day()))
    }
}
