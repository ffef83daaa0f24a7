//! The command line of `bojagi load`.

use clap::{Args, Subcommand};

/// One call of a reservation, at most.
const ATTEMPT_MS_DEFAULT: u64 = 30_000;

/// `bojagi load --reserve N …`, `bojagi load idle …`, `bojagi load bare …`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct LoadArgs {
    #[command(subcommand)]
    pub command: Option<LoadCommand>,
    #[command(flatten)]
    pub reserve: ReserveArgs,
}

#[derive(Subcommand, Clone, Debug)]
pub enum LoadCommand {
    /// Hold idle keep-alive or SSE connections open and count how many stay
    Idle(IdleArgs),
    /// A bare keep-alive client against any URL, for comparison
    Bare(BareArgs),
    /// Dev mode: a crowd claims one coupon campaign, and what came of it is judged
    Claims(ClaimsArgs),
    /// Dev mode: orders at a rate, followed to their end and held against the stocks
    Orders(OrdersArgs),
    /// Dev mode: a crowd queues for a show, takes its seats and pays, and what came of it is judged
    Concert(ConcertArgs),
}

/// Reserves gifts through the front door.
#[derive(Args, Clone, Debug)]
pub struct ReserveArgs {
    /// Gifts to reserve
    #[arg(long = "reserve", value_name = "N", required = true)]
    pub count: Option<u64>,
    /// Reservations a second, started on schedule whether or not earlier ones were answered; without it, as fast as
    /// the connections go
    #[arg(long, value_name = "R", value_parser = positive)]
    pub rate: Option<f64>,
    /// Keep-alive connections, each with one request in flight
    #[arg(long, value_name = "C", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub concurrency: u32,
    /// Send instant of every gift, RFC 3339
    #[arg(long, value_name = "INSTANT", conflicts_with = "within")]
    pub at: Option<String>,
    /// Send instant in so many seconds by the API's clock (default 900)
    #[arg(long = "in", value_name = "SECS", id = "within")]
    pub within: Option<i64>,
    /// Milliseconds from the instant at which each gift, in turn, leaves; empty: all leave at it
    #[arg(skip)]
    pub spread_ms: Vec<i64>,
    /// Base URL of the API; several are used in turn
    #[arg(long = "url", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub urls: Vec<String>,
    /// Bearer token of a user; several are used in turn
    #[arg(long = "token", value_name = "JWT", env = "BOJAGI_TOKEN", hide_env_values = true)]
    pub tokens: Vec<String>,
    /// Dev mode: mint tokens for so many users instead
    #[arg(long, value_name = "N", conflicts_with = "tokens")]
    pub users: Option<u32>,
    #[arg(long, value_name = "ID", default_value = "americano")]
    pub product: String,
    #[arg(long, value_delimiter = ',', default_value = "kakao,sms")]
    pub channels: Vec<String>,
    /// Name of the run, part of every idempotency key: the same name makes the same gifts again, once
    #[arg(long, value_name = "NAME")]
    pub run: Option<String>,
    /// Give up on one reservation after so many seconds of retries; its outcome is then unknown
    #[arg(long, value_name = "SECS", default_value_t = 60)]
    pub patience: u64,
    /// Give up on one call of it after so many milliseconds, and repeat it under its key at the next URL
    #[arg(long, value_name = "MS", default_value_t = ATTEMPT_MS_DEFAULT, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub attempt_ms: u64,
    /// Wait for the instant and judge the arrivals by the sandbox's ledger
    #[arg(long)]
    pub measure: bool,
    /// Base URL of the sandbox
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8090")]
    pub sandbox: String,
    /// Dev mode, with --measure: move the clock to so many seconds before the instant
    #[arg(long, value_name = "SECS", num_args = 0..=1, default_missing_value = "10", requires = "measure")]
    pub advance: Option<i64>,
    /// With --measure: how long after the instant to wait for the last arrival
    #[arg(long, value_name = "SECS", default_value_t = 120)]
    pub wait: u64,
    /// Processes whose CPU time and memory are measured over the run (Linux)
    #[arg(long = "pid", value_name = "PID")]
    pub pids: Vec<u32>,
    /// Print the report as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub struct IdleArgs {
    #[arg(long, value_name = "N")]
    pub connections: u32,
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// What each connection asks for once before it falls idle
    #[arg(long, default_value = "/healthz")]
    pub path: String,
    /// The path is a stream of Server-Sent Events that stays open
    #[arg(long)]
    pub sse: bool,
    #[arg(long, value_name = "JWT", env = "BOJAGI_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// How long to hold them; the server may close idle ones after its own idle time
    #[arg(long, value_name = "SECS", default_value_t = 20)]
    pub hold: u64,
    /// Connections being opened at a time
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub opening: u32,
    /// Process whose memory is measured before and while they are held (Linux)
    #[arg(long = "pid", value_name = "PID")]
    pub pids: Vec<u32>,
}

#[derive(Args, Clone, Debug)]
pub struct BareArgs {
    #[arg(long, value_name = "N")]
    pub requests: u64,
    #[arg(long, value_name = "C", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub concurrency: u32,
    /// Full URL of the POST
    #[arg(long)]
    pub url: String,
    /// Body; `{n}` becomes the number of the request
    #[arg(long)]
    pub body: String,
    /// `name: value`
    #[arg(long = "header", value_name = "HEADER")]
    pub headers: Vec<String>,
}

#[derive(Args, Clone, Debug, Default)]
pub struct ClaimsArgs {
    /// Members who claim, each once
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub members: u64,
    /// Further claims of members who claimed shortly before: half under the same key, half under another
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub repeats: u64,
    /// Coupons of the campaign
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub quantity: u32,
    /// Parts of the campaign, each on a shard of its own; 1: all claims are decided in one order
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub parts: u8,
    /// Claims a second, started on schedule; without it, as fast as the connections go
    #[arg(long, value_name = "R", value_parser = positive)]
    pub rate: Option<f64>,
    #[arg(long, value_name = "C", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub concurrency: u32,
    /// Base URL of the API; several are used in turn
    #[arg(long = "url", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub urls: Vec<String>,
    /// Processes whose CPU time is measured over the run (Linux)
    #[arg(long = "pid", value_name = "PID")]
    pub pids: Vec<u32>,
}

/// Orders of one line each, from placing to their end.
#[derive(Args, Clone, Debug)]
pub struct OrdersArgs {
    /// Orders to place
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub orders: u64,
    /// Orders a second, started on schedule; without it, as fast as the connections go
    #[arg(long, value_name = "R", value_parser = positive)]
    pub rate: Option<f64>,
    #[arg(long, value_name = "C", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub concurrency: u32,
    /// Stocks that the orders are spread over
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub skus: u32,
    /// Units of each order
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub quantity: u32,
    /// Buyers who place them
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub users: u32,
    /// How long to wait for the ends, once all are placed
    #[arg(long, value_name = "SECS", default_value_t = 120)]
    pub wait: u64,
    /// Base URL of the API; several are used in turn
    #[arg(long = "url", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub urls: Vec<String>,
    /// Processes whose CPU time is measured over the run (Linux)
    #[arg(long = "pid", value_name = "PID")]
    pub pids: Vec<u32>,
}

/// A crowd that queues for a show, takes seats and pays.
#[derive(Args, Clone, Debug, Default)]
pub struct ConcertArgs {
    /// People who enter the queue, each once
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub crowd: u64,
    /// Those of them who then try to get a seat
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub buyers: u64,
    /// Seats, in sections of 100
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    pub seats: u64,
    #[arg(long, value_name = "C", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub concurrency: u32,
    /// Base URL of the API; several are used in turn
    #[arg(long = "url", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub urls: Vec<String>,
    /// Processes whose CPU time is measured over the run (Linux)
    #[arg(long = "pid", value_name = "PID")]
    pub pids: Vec<u32>,
}

impl Default for ReserveArgs {
    /// What the command line gives when nothing is said.
    fn default() -> Self {
        Self {
            count: None,
            rate: None,
            concurrency: 64,
            at: None,
            within: None,
            spread_ms: Vec::new(),
            urls: Vec::new(),
            tokens: Vec::new(),
            users: None,
            product: "americano".to_owned(),
            channels: vec!["kakao".to_owned(), "sms".to_owned()],
            run: None,
            patience: 60,
            attempt_ms: ATTEMPT_MS_DEFAULT,
            measure: false,
            sandbox: String::new(),
            advance: None,
            wait: 120,
            pids: Vec::new(),
            json: false,
        }
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        Ok(_) | Err(_) => Err("a rate is a number above 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        load: LoadArgs,
    }

    fn parse(line: &str) -> Result<LoadArgs, clap::error::ErrorKind> {
        let words = std::iter::once("load").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.load).map_err(|error| error.kind())
    }

    #[test]
    fn reservations_are_the_plain_command() {
        let load = parse("--reserve 20000 --rate 500 --in 900 --token a --token b --measure --advance --json").unwrap();
        assert!(load.command.is_none());
        assert_eq!(
            (load.reserve.count, load.reserve.rate, load.reserve.within),
            (Some(20_000), Some(500.0), Some(900))
        );
        assert_eq!(load.reserve.tokens, ["a", "b"]);
        assert_eq!((load.reserve.advance, load.reserve.json), (Some(10), true));
        assert_eq!(load.reserve.channels, ["kakao", "sms"]);
    }

    #[test]
    fn subcommands_need_no_reservation() {
        let load = parse("idle --connections 50000 --sse --path /v1/gifts/g_1/stream --json").unwrap();
        let Some(LoadCommand::Idle(idle)) = load.command else { panic!("idle") };
        assert_eq!((idle.connections, idle.sse, idle.hold), (50_000, true, 20));
        assert!(load.reserve.json);
        assert!(matches!(
            parse("bare --requests 5 --url http://x/y --body {n}").unwrap().command,
            Some(LoadCommand::Bare(_))
        ));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        use clap::error::ErrorKind;
        assert_eq!(parse("").unwrap_err(), ErrorKind::MissingRequiredArgument);
        assert_eq!(parse("--reserve 5 --rate 0").unwrap_err(), ErrorKind::ValueValidation);
        assert_eq!(parse("--reserve 5 --concurrency 0").unwrap_err(), ErrorKind::ValueValidation);
        assert_eq!(parse("--reserve 5 --at 2027-01-01T00:00:00Z --in 5").unwrap_err(), ErrorKind::ArgumentConflict);
        assert_eq!(parse("--reserve 5 --advance").unwrap_err(), ErrorKind::MissingRequiredArgument);
    }
}
