//! REQ-FETCH-GUARD: nothing leads a download into a private network: not the spelling of an address, not a name that
//! resolves to one, not one that changes its mind.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use downloader::{Ask, Blocked, Downloads, FetchError, Guard, Policy, Timeouts, Transport, is_public};
use http_util::{ResolveNames, Resolved};
use proptest::prelude::*;
use test_harness_support::file_server::{FileServer, Resource};

fn guard(downloads: Downloads, allowed: &[&str], private: &[&str]) -> Guard {
    Guard::new(Policy {
        downloads,
        allowed_hosts: allowed.iter().map(|host| host.parse().unwrap()).collect(),
        private_origins: private.iter().map(|origin| origin.parse().unwrap()).collect(),
    })
}

/// Addresses of machines that a download must never reach.
const INNER: [[u8; 4]; 14] = [
    [127, 0, 0, 1],
    [127, 255, 0, 9],
    [10, 0, 0, 1],
    [10, 255, 255, 254],
    [172, 16, 0, 1],
    [172, 31, 255, 1],
    [192, 168, 1, 1],
    [169, 254, 169, 254],
    [100, 100, 100, 200],
    [0, 0, 0, 0],
    [192, 0, 0, 192],
    [198, 18, 0, 1],
    [224, 0, 0, 1],
    [255, 255, 255, 255],
];

/// An address in every spelling that some parser takes.
fn spellings(address: [u8; 4]) -> Vec<String> {
    let [a, b, c, d] = address;
    let number = u32::from_be_bytes(address);
    let v6 = Ipv4Addr::from(address).to_ipv6_mapped();
    let dotted = format!("{a}.{b}.{c}.{d}");
    vec![
        dotted.clone(),
        format!("{dotted}."),
        format!("{a}.{b}.{}", u32::from(c) << 8 | u32::from(d)),
        format!("{a}.{}", number & 0xff_ffff),
        format!("{number}"),
        format!("{number:#x}"),
        format!("{number:#o}").replacen("0o", "0", 1),
        format!("{a:#x}.{b:#x}.{c:#x}.{d:#x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("000{a:o}.{b}.{c}.{d}"),
        format!("{a:#x}.{b}.{c}.{d}"),
        format!("[{v6}]"),
        format!("[::ffff:{:x}:{:x}]", number >> 16, number & 0xffff),
        format!("[0:0:0:0:0:ffff:{dotted}]"),
        format!("[::{dotted}]"),
        format!("[64:ff9b::{dotted}]"),
        format!("[2002:{:x}:{:x}::1]", number >> 16, number & 0xffff),
        dotted.replace('.', "%2e"),
        dotted.replace('.', "\u{3002}"),
        dotted
            .chars()
            .map(|c| {
                if c == '.' {
                    c
                } else {
                    char::from_u32(c as u32 + 0xfee0).unwrap()
                }
            })
            .collect(),
    ]
}

/// Hosts and URLs that have got somewhere in other programs.
fn vectors() -> Vec<String> {
    let mut vectors = Vec::new();
    for address in INNER {
        for host in spellings(address) {
            vectors.extend([
                format!("https://{host}/x"),
                format!("http://{host}/x"),
                format!("https://{host}:443/x"),
            ]);
        }
    }
    for host in [
        "[::1]",
        "[::]",
        "[fe80::1]",
        "[fc00::1]",
        "[fd12:3456::1]",
        "[ff02::1]",
        "[2001:db8::1]",
        "[2001::1]",
        "[3fff::1]",
        "[100::1]",
    ] {
        vectors.push(format!("https://{host}/x"));
    }
    vectors.extend(
        [
            "https://user@example.org/",
            "https://example.org@127.0.0.1/",
            "https://127.0.0.1#@example.org/",
            "https://127.0.0.1\\@example.org/",
            "https://example.org\\@127.0.0.1/",
            "https://127.0.0.1:80\\@example.org/",
            "https://127.0.0.1\t.example.org/",
            "https://127.0.0.1 .example.org/",
            "https://exa\nmple.org/",
            "https://example.org:22/",
            "https://example.org:80/",
            "https://example.org:8443/",
            "http://example.org/",
            "ftp://example.org/",
            "file:///etc/passwd",
            "gopher://127.0.0.1:6379/_x",
            "dict://127.0.0.1:11211/",
            "jar:https://example.org!/",
            "data:text/plain,x",
            "//127.0.0.1/x",
            "https:127.0.0.1/x",
            "https:///127.0.0.1/x",
            "https://[::ffff:127.0.0.1%25lo]/",
            "https://",
            "",
            "127.0.0.1",
        ]
        .map(str::to_owned),
    );
    vectors
}

#[test]
fn no_spelling_of_an_inner_address_passes() {
    let guard = guard(Downloads::On, &[], &[]);
    let vectors = vectors();
    assert!(vectors.len() >= 500, "{}", vectors.len());
    for text in &vectors {
        if let Ok(url) = guard.parse(text) {
            // What passes is a name, which is checked when it is looked up, or an address of the public internet.
            let address = url
                .host_str()
                .and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
            assert!(
                address.is_some_and(is_public) || url.domain().is_some(),
                "{text} passed as {url}"
            );
            let name = url.domain().unwrap_or_default();
            assert!(
                !name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'),
                "{text} passed as {url}"
            );
        }
    }
    guard.parse("https://example.org/x?y=1").unwrap();
    guard.parse("https://1.1.1.1/x").unwrap();
}

#[test]
fn what_is_public_and_what_is_not() {
    for public in [
        "1.1.1.1",
        "8.8.8.8",
        "172.15.0.1",
        "172.32.0.1",
        "100.128.0.1",
        "192.0.1.1",
        "2606:4700::1",
        "2a00::1",
        "::ffff:8.8.8.8",
    ] {
        assert!(is_public(public.parse().unwrap()), "{public}");
    }
    for inner in INNER {
        assert!(!is_public(Ipv4Addr::from(inner).into()));
        assert!(!is_public(Ipv4Addr::from(inner).to_ipv6_mapped().into()));
    }
}

#[test]
fn the_policy_says_from_where() {
    let listed = guard(
        Downloads::Allowlist,
        &["huggingface.co", "*.hf.co"],
        &["http://mirror.lan:8080"],
    );
    for allowed in [
        "https://huggingface.co/x",
        "https://HuggingFace.co./x",
        "https://cdn-lfs.hf.co/x",
        "http://mirror.lan:8080/x",
    ] {
        listed.parse(allowed).unwrap();
    }
    for (refused, why) in [
        ("https://huggingface.co.evil.org/x", "allowed_hosts"),
        ("https://evilhf.co/x", "allowed_hosts"),
        ("https://hf.co/x", "allowed_hosts"),
        ("https://mirror.lan:8080/x", "443"),
        ("http://mirror.lan/x", "https://"),
        ("http://mirror.lan:8081/x", "https://"),
    ] {
        let message = listed.parse(refused).unwrap_err().to_string();
        assert!(message.contains(why), "{refused}: {message}");
    }
    let off = guard(Downloads::Off, &[], &["http://mirror.lan:8080"]);
    assert_eq!(off.parse("http://mirror.lan:8080/x"), Err(Blocked::Off));
    assert_eq!(listed.scheme_of("mirror.lan:8080"), "http");
    assert_eq!(listed.scheme_of("mirror.lan"), "https");
    for bad in ["*", "*.org", "a/b", "", ".a.b", "a b"] {
        assert!(bad.parse::<downloader::HostPattern>().is_err(), "{bad}");
    }
    for bad in ["10.0.0.1", "http://u@h", "http://h/path", "ftp://h", "http://"] {
        assert!(bad.parse::<downloader::PrivateOrigin>().is_err(), "{bad}");
    }
}

/// Answers differently each time it is asked, like a name server that is up to something.
#[derive(Debug)]
struct Rebinding {
    answers: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl ResolveNames for Rebinding {
    fn resolve(&self, _host: &str) -> Resolved {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers[turn.min(self.answers.len() - 1)].clone();
        Box::pin(async move { Ok(answer) })
    }
}

fn rebinding(policy: Policy, answers: Vec<Vec<IpAddr>>) -> (Transport, Arc<Rebinding>) {
    let resolver = Arc::new(Rebinding {
        answers,
        asked: AtomicUsize::new(0),
    });
    let names: Arc<dyn ResolveNames> = resolver.clone();
    let timeouts = Timeouts {
        connect: std::time::Duration::from_millis(200),
        ..Timeouts::default()
    };
    (
        Transport::with_resolver(Guard::new(policy), timeouts, names).unwrap(),
        resolver,
    )
}

#[tokio::test]
async fn a_name_is_looked_up_once_and_its_address_is_the_one_connected_to() {
    let policy = Policy {
        downloads: Downloads::On,
        ..Policy::default()
    };
    let inner = IpAddr::V4(Ipv4Addr::LOCALHOST);
    // No packet to this address leaves the machine, so the attempt fails at once or in time.
    let outer = IpAddr::V6(Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0, 0, 0, 0xdead));
    for answers in [
        vec![vec![inner]],
        vec![vec![outer, inner]],
        vec![vec![Ipv4Addr::new(169, 254, 169, 254).into()]],
    ] {
        let (transport, resolver) = rebinding(policy.clone(), answers);
        let refused = transport
            .get(&Ask::new("https://rebind.example/x".parse().unwrap()))
            .await;
        assert!(
            matches!(refused, Err(FetchError::Blocked(Blocked::Address { .. }))),
            "{refused:?}"
        );
        assert_eq!(resolver.asked.load(Ordering::SeqCst), 1);
    }
    let (transport, resolver) = rebinding(policy, vec![vec![outer], vec![inner]]);
    let failed = transport
        .get(&Ask::new("https://rebind.example/x".parse().unwrap()))
        .await;
    assert!(matches!(failed, Err(FetchError::Http(_))), "{failed:?}");
    assert_eq!(
        resolver.asked.load(Ordering::SeqCst),
        1,
        "there is no second look that could differ"
    );
}

#[tokio::test]
async fn a_private_name_that_is_meant_is_reached() {
    let server = FileServer::start().await.unwrap();
    server.serve("/x", Resource::new("here", "1"));
    let origin = format!("http://mirror.lan:{}", server.address().port());
    let policy = Policy {
        private_origins: vec![origin.parse().unwrap()],
        ..Policy::default()
    };
    let (transport, _) = rebinding(policy, vec![vec![Ipv4Addr::LOCALHOST.into()]]);
    let answer = transport
        .get(&Ask::new(format!("{origin}/x").parse().unwrap()))
        .await
        .unwrap();
    assert_eq!(&answer.bytes(99).await.unwrap()[..], b"here");
}

proptest! {
    /// Whatever passes as an address is public, however it was written.
    #[test]
    fn no_text_passes_as_an_inner_address(host in "[0-9a-fx:.%\\[\\]]{1,30}") {
        if let Ok(url) = guard(Downloads::On, &[], &[]).parse(&format!("https://{host}/")) {
            if let Some(url::Host::Ipv4(address)) = url.host() {
                prop_assert!(is_public(address.into()), "{}", url);
            }
            if let Some(url::Host::Ipv6(address)) = url.host() {
                prop_assert!(is_public(address.into()), "{}", url);
            }
        }
    }
}
