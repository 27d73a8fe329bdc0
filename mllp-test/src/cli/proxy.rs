//! `proxy`: a bad line between any two.

use super::args::ProxyArgs;
use super::{Failure, until_over};
use mllp_test::Proxy;
use mllp_test::proxy::{Conditions, Flow};

impl ProxyArgs {
    pub(super) async fn run(self) -> Result<bool, Failure> {
        let proxy = Proxy::start(&self.address, self.target.clone(), self.seed).await?;
        proxy.set(Conditions { to_target: flow(&self.there)?, to_client: flow(&self.back)? });
        eprintln!("listening on {}", proxy.address());
        let flapping = async {
            match &self.flap {
                Some(times) => proxy.flap(times.start, times.end, u32::MAX).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = until_over(self.seconds) => {}
            ended = flapping => ended?,
        }
        println!("{} connections, {} cut", proxy.connections(), proxy.cuts());
        Ok(true)
    }
}

fn flow(rules: &[String]) -> Result<Flow, Failure> {
    Ok(Flow::parse(rules.iter().map(String::as_str))?)
}
