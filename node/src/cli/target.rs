//! Which node a command speaks to.

use super::{
    Global,
    client::Client,
    exit::{Failed, Outcome},
    light::Light,
};
use crate::home::Home;
use libp2p::Multiaddr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

#[derive(Clone, Debug)]
pub(crate) enum Target {
    Http(Client),
    Mesh(Multiaddr),
}

impl Global {
    pub(crate) fn open_home(&self) -> Outcome<Home> {
        Ok(Home::open(self.home.clone())?)
    }

    /// The node that `--node` names, else the one that runs on the home.
    pub(crate) fn target(&self) -> Outcome<Target> {
        match self.node.as_deref() {
            Some(node) if node.starts_with('/') => {
                let address = node.parse();
                address
                    .map(Target::Mesh)
                    .map_err(|e| Failed::usage(format!("--node {node}: not a multiaddr: {e}")))
            }
            Some(url) => Client::new(url, self.key_for(url)?).map(Target::Http),
            None => self.local().map(Target::Http),
        }
    }

    /// The same for commands that only HTTP answers.
    pub(crate) fn client(&self, command: &str) -> Outcome<Client> {
        match self.target()? {
            Target::Http(client) => Ok(client),
            Target::Mesh(_) => Err(Failed::usage(format!(
                "`{command}` needs a node's URL: --node http://HOST:PORT, or none for the node on --home"
            ))),
        }
    }

    /// A light node on the node that `--node` names by multiaddr, else on the one that runs on the
    /// home. The payer is always the home's own account.
    pub(crate) async fn light(&self) -> Outcome<Light> {
        let Some(address) = self.mesh_address()? else {
            return Err(nothing_runs(&self.open_home()?));
        };
        Light::connect(&self.open_home()?, &address).await
    }

    /// The multiaddr of the node that is meant; `None` when none runs on the home.
    pub(crate) fn mesh_address(&self) -> Outcome<Option<Multiaddr>> {
        match self.node.as_deref() {
            Some(node) if node.starts_with('/') => match self.target()? {
                Target::Mesh(address) => Ok(Some(address)),
                Target::Http(_) => Ok(None),
            },
            Some(url) if !Self::is_own(&self.open_home()?, url)? => Err(Failed::usage(
                "this command speaks to the mesh: --node /ip4/…/p2p/<peer id>, or none for the node on --home",
            )),
            _ => Ok(self.open_home()?.mesh_address()?),
        }
    }

    fn is_own(home: &Home, url: &str) -> Outcome<bool> {
        Ok(home.http_address()?.map(url_of).is_some_and(|own| own == url.trim_end_matches('/')))
    }

    fn local(&self) -> Outcome<Client> {
        let home = self.open_home()?;
        let Some(address) = home.http_address()? else { return Err(nothing_runs(&home)) };
        let key = match &self.key {
            Some(key) => key.clone(),
            None => home.api_key()?,
        };
        Client::new(&url_of(address), Some(key))
    }

    /// A key goes to no other node than the one that it is for.
    fn key_for(&self, url: &str) -> Outcome<Option<String>> {
        if self.key.is_some() {
            return Ok(self.key.clone());
        }
        let home = self.open_home()?;
        Ok(if Self::is_own(&home, url)? { Some(home.api_key()?) } else { None })
    }
}

fn nothing_runs(home: &Home) -> Failed {
    Failed::network(format!(
        "no node runs on {}: start one with `archipelag up`, or name one with --node",
        home.path().display()
    ))
}

/// Where a program on this machine reaches a server that listens on `address`.
pub(crate) fn url_of(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global(home: &std::path::Path, node: Option<&str>) -> Global {
        Global {
            node: node.map(str::to_owned),
            key: None,
            home: Some(home.to_owned()),
            json: false,
            verbose: 0,
        }
    }

    #[test]
    fn the_homes_key_goes_to_its_own_node_alone() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(Some(directory.path().join("home"))).unwrap();
        home.write_addresses("0.0.0.0:8420".parse().unwrap(), None).unwrap();
        let key = home.api_key().unwrap();
        let of = |url: &str| global(home.path(), None).key_for(url).unwrap();
        assert_eq!(of("http://127.0.0.1:8420/"), Some(key));
        assert_eq!(of("http://127.0.0.1:8421"), None);
        assert_eq!(of("http://example.org:8420"), None);
    }

    #[test]
    fn without_a_node_the_message_says_how_to_get_one() {
        let directory = tempfile::tempdir().unwrap();
        let refused = global(&directory.path().join("home"), None).target().unwrap_err();
        assert_eq!(refused.exit, super::super::exit::Exit::Network);
        assert!(refused.message.contains("archipelag up"));
        let refused = global(directory.path(), Some("/ip4/x")).target().unwrap_err();
        assert_eq!(refused.exit, super::super::exit::Exit::Usage);
    }
}
