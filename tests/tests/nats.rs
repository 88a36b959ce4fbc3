//! The nats-server of the tests is a real one: what it acknowledged survives a crash, on the same address.

use e2e::Nats;
use e2e::nats::Options;

#[tokio::test]
async fn an_acknowledged_message_survives_a_crash_of_the_server() {
    let mut nats = Nats::start_with(Options { domain: "pc2".into(), ..Options::default() }).await.unwrap();
    let jetstream = async_nats::jetstream::with_domain(nats.client().await.unwrap(), "pc2");
    let config = async_nats::jetstream::stream::Config {
        name: "KEPT".into(),
        subjects: vec!["kept.>".into()],
        ..Default::default()
    };
    jetstream.create_stream(config).await.unwrap();
    jetstream.publish("kept.one", "1".into()).await.unwrap().await.unwrap();

    let url = nats.url();
    nats.kill().unwrap();
    nats.restart().await.unwrap();
    assert_eq!(nats.url(), url);

    let jetstream = async_nats::jetstream::with_domain(nats.client().await.unwrap(), "pc2");
    let mut stream = jetstream.get_stream("KEPT").await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 1);
}

#[tokio::test]
async fn two_servers_run_side_by_side() {
    let (one, two) = (Nats::start().await.unwrap(), Nats::start().await.unwrap());
    assert_ne!(one.url(), two.url());
    assert_eq!(
        one.client().await.unwrap().server_info().port.to_string(),
        one.url().rsplit(':').next().unwrap()
    );
}
