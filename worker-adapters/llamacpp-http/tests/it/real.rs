//! temp
use crate::common::*;
use adapter_api::*;
#[tokio::test]
async fn real() {
    let a = adapter("http://127.0.0.1:32789", None, PATIENT);
    println!(
        "{:?} {:?} {:?}",
        a.health().await,
        a.props().await,
        a.count_tokens("the moon").await
    );
    for n in 0..5 {
        let t = std::time::Duration::ZERO;
        let _ = t;
        let s = tokio::time::Instant::now();
        let o = generate(&a, &job("the moon of the river", 40)).await;
        println!(
            "{n} {:?} {} {:?} gen {}",
            s.elapsed(),
            o.texts.len(),
            o.end,
            o.generated
        );
    }
    let o = generate(&a, &job(&"the moon of the river ".repeat(400), 40)).await;
    println!("{o:?}");
    let st = a.submit(&job("the moon", 400)).await.unwrap();
    drop(st);
}
