//! An edge whose `/echo` sends messages back, for `tests/autobahn/run`. Prints its
//! address and runs until its standard input ends.

use std::{error::Error, io::Read, sync::Arc};

use edge::{Access, Config, NotifierLink};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let access = Access {
        notifier: NotifierLink::Local(Arc::new(|_: &str, _, _| None)),
        dev_tokens: None,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let end = CancellationToken::new();
    let ended = end.clone();
    std::thread::spawn(move || {
        // An error is an end too.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        ended.cancel();
    });
    edge::run(Config::default(), access, listener, end).await?;
    Ok(())
}
