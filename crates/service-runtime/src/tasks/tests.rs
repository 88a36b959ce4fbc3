use std::time::Duration;

use super::*;

fn tasks() -> (Tasks, Shutdown) {
    let shutdown = Shutdown::new(Duration::from_secs(10));
    (Tasks::new(shutdown.clone()), shutdown)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(2)
}

#[tokio::test]
async fn a_task_that_fails_ends_the_process_and_is_the_reason() {
    let (tasks, shutdown) = tasks();
    tasks.spawn("reader", async { Err(anyhow::anyhow!("disk gone").context("cannot read")) });
    shutdown.requested().await;
    assert!(!tasks.is_healthy());
    tasks.finish(soon(), soon()).await;
    assert_eq!(chain(&tasks.take_failure().unwrap()), "task reader failed: cannot read: disk gone");
}

#[tokio::test]
async fn a_task_that_panics_ends_the_process_and_is_the_reason() {
    let (tasks, shutdown) = tasks();
    tasks.spawn("reader", async { panic!("index {} out of range", 7) });
    shutdown.requested().await;
    tasks.finish(soon(), soon()).await;
    assert_eq!(chain(&tasks.take_failure().unwrap()), "task reader panicked: index 7 out of range");
}

#[tokio::test]
async fn the_first_failure_is_kept() {
    let (tasks, shutdown) = tasks();
    let token = shutdown.token();
    tasks.spawn("second", async move {
        token.cancelled().await;
        anyhow::bail!("because of the first")
    });
    tasks.spawn("first", async { anyhow::bail!("cause") });
    tasks.finish(soon(), soon()).await;
    assert_eq!(chain(&tasks.take_failure().unwrap()), "task first failed: cause");
}

#[tokio::test]
async fn a_task_that_is_done_does_not_end_the_process() {
    let (tasks, shutdown) = tasks();
    tasks.spawn("start-up work", async { Ok(()) });
    tasks.drained().await;
    assert!(tasks.is_healthy());
    assert!(!shutdown.is_requested());
}

#[tokio::test(start_paused = true)]
async fn tasks_may_finish_their_work_after_the_shutdown_was_asked_for() {
    let (tasks, shutdown) = tasks();
    let (done, was_done) = tokio::sync::oneshot::channel();
    let token = shutdown.token();
    tasks.spawn("writer", async move {
        token.cancelled().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let _ = done.send("written");
        Ok(())
    });
    shutdown.request();
    let dropped = tasks.finish(soon(), soon()).await;
    assert!(dropped.is_empty());
    assert_eq!(was_done.await, Ok("written"));
}

#[tokio::test(start_paused = true)]
async fn tasks_that_do_not_heed_the_shutdown_are_dropped_and_named() {
    let (tasks, shutdown) = tasks();
    let (alive, dropped_task) = tokio::sync::oneshot::channel::<()>();
    tasks.spawn("deaf", async move {
        let _alive = alive;
        std::future::pending().await
    });
    tasks.spawn("brief", async { Ok(()) });
    shutdown.request();
    assert_eq!(tasks.finish(soon(), soon()).await, ["deaf"]);
    assert!(dropped_task.await.is_err(), "the task was dropped, not leaked");
    assert!(tasks.take_failure().is_none());
}

#[tokio::test]
async fn servers_are_stopped_after_the_work_has_ended() {
    let (tasks, shutdown) = tasks();
    let (events, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let server_events = events.clone();
    tasks.spawn_server("admin", |stop| async move {
        stop.cancelled().await;
        server_events.send("server")?;
        Ok(())
    });
    let token = shutdown.token();
    tasks.spawn("work", async move {
        token.cancelled().await;
        events.send("work")?;
        Ok(())
    });
    shutdown.request();
    assert!(tasks.finish(soon(), soon()).await.is_empty());
    assert_eq!((seen.recv().await, seen.recv().await), (Some("work"), Some("server")));
}

#[tokio::test]
async fn tasks_may_spawn_tasks_while_they_drain() {
    let (tasks, shutdown) = tasks();
    let (done, was_done) = tokio::sync::oneshot::channel();
    let (token, spawner) = (shutdown.token(), tasks.clone());
    tasks.spawn("outer", async move {
        token.cancelled().await;
        spawner.spawn("inner", async move {
            let _ = done.send(());
            Ok(())
        });
        Ok(())
    });
    shutdown.request();
    tasks.finish(soon(), soon()).await;
    assert_eq!(was_done.await, Ok(()));
}
