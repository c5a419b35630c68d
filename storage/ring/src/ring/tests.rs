use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use glommio::{LocalExecutorBuilder, Placement};

use super::*;
use crate::threads::Threads;

/// Runs `test` on an executor and a ring of its own.
fn driven<F: Future<Output = ()> + 'static>(test: impl FnOnce(Ring) -> F + Send + 'static) {
    let thread = LocalExecutorBuilder::new(Placement::Unbound).io_memory(1 << 20).spawn(|| async move {
        let ring = Ring::new(Duration::ZERO).unwrap();
        ring.drive(test(ring.clone())).await;
    });
    thread.unwrap().join().unwrap();
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, client)
}

#[test]
fn what_is_written_is_read_back() {
    driven(|ring| async move {
        let file: Rc<dyn AsFd> = Rc::new(tempfile::tempfile().unwrap());
        let mut memory = Aligned::zeroed(8192);
        memory[..5].copy_from_slice(b"hello");
        let memory = Rc::new(memory);
        assert_eq!(ring.write(Rc::clone(&file), Rc::clone(&memory), 5, 100).await.unwrap(), 5);
        assert_eq!(Rc::strong_count(&memory), 1, "the ring lets go of it before it answers");
        ring.sync_data(Rc::clone(&file)).await.unwrap();
        let (read, bytes) = ring.read(file, Rc::new(Aligned::zeroed(4096)), 4096, 99).await.unwrap();
        assert_eq!((bytes, &read[..6], Rc::strong_count(&read)), (6, &b"\0hello"[..], 1));
    });
}

#[test]
fn errors_keep_their_number() {
    driven(|ring| async move {
        let file: Rc<dyn AsFd> = Rc::new(std::fs::File::open("/proc/self/exe").unwrap());
        let error = ring.write(file, Rc::new(Aligned::zeroed(1)), 1, 0).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    });
}

#[test]
fn waiting_for_bytes_ends_when_they_come_and_leaves_them_there() {
    driven(|ring| async move {
        let (ours, mut theirs) = pair();
        let ours = Rc::new(ours);
        let file: Rc<dyn AsFd> = Rc::clone(&ours) as _;
        let writer = ring.spawn({
            let ring = ring.clone();
            async move {
                ring.sleep(Duration::from_millis(20)).await;
                theirs.write_all(b"x").unwrap();
                theirs
            }
        });
        ring.readable(Rc::clone(&file)).await.unwrap();
        let theirs = writer.await;
        let mut byte = [0];
        (&*ours).read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x");
        drop(theirs);
        ring.readable(file).await.unwrap();
    });
}

/// The kernel lets go of a socket that is no longer waited for: closing it closes the connection.
#[test]
fn a_wait_that_is_given_up_holds_nothing() {
    driven(|ring| async move {
        let (ours, mut theirs) = pair();
        let file: Rc<dyn AsFd> = Rc::new(ours);
        {
            let mut wait = pin!(ring.readable(Rc::clone(&file)));
            assert!(poll_fn(|context| Poll::Ready(wait.as_mut().poll(context).is_pending())).await);
            yield_now().await;
        }
        while Rc::strong_count(&file) > 1 {
            ring.sleep(Duration::from_millis(1)).await;
        }
        drop(file);
        theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn a_write_whose_future_is_dropped_is_done_all_the_same() {
    driven(|ring| async move {
        let path = tempfile::NamedTempFile::new().unwrap();
        let file: Rc<dyn AsFd> = Rc::new(path.reopen().unwrap());
        let memory = Rc::new(Aligned::zeroed(4096));
        {
            let mut write = pin!(ring.write(file, Rc::clone(&memory), 4096, 0));
            assert!(poll_fn(|context| Poll::Ready(write.as_mut().poll(context).is_pending())).await);
        }
        assert_eq!(Rc::strong_count(&memory), 2);
        while Rc::strong_count(&memory) > 1 {
            ring.sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(std::fs::metadata(path.path()).unwrap().len(), 4096);
    });
}

#[test]
fn timers_fire_in_their_order_and_a_dropped_one_does_not() {
    driven(|ring| async move {
        let order = Rc::new(RefCell::new(Vec::new()));
        let sleeper = |after_ms| {
            let (ring, order) = (ring.clone(), Rc::clone(&order));
            async move {
                ring.sleep(Duration::from_millis(after_ms)).await;
                order.borrow_mut().push(after_ms);
            }
        };
        let begun = Instant::now();
        let (long, short) = (ring.spawn(sleeper(30)), ring.spawn(sleeper(10)));
        drop(ring.spawn(sleeper(5)));
        short.await;
        long.await;
        assert_eq!(*order.borrow(), [10, 30]);
        assert!(begun.elapsed() >= Duration::from_millis(30));
        assert!(ring.inner.timers.borrow().is_empty());
    });
}

#[test]
fn calls_that_block_run_elsewhere_and_wake_the_core() {
    driven(|ring| async move {
        let threads = Threads::new("test", 2).unwrap();
        let me = std::thread::current().id();
        for number in 0..1000 {
            let (got, thread) = threads.run(&ring, move || (number, std::thread::current().id())).await;
            assert!(got == number && thread != me);
        }
        let slow = threads.run(&ring, || std::thread::sleep(Duration::from_millis(50)));
        let begun = Instant::now();
        slow.await;
        assert!(begun.elapsed() < Duration::from_secs(5), "woken, not found at some tick");
    });
}

/// A panic of a call that nobody waits for costs no thread.
#[test]
fn threads_outlive_calls_that_panic() {
    driven(|ring| async move {
        let threads = Threads::new("test", 1).unwrap();
        threads.begin(|| std::panic::panic_any("as planned"));
        assert_eq!(threads.run(&ring, || 7).await, 7);
    });
}

/// Nothing else wakes the one that waits: no timer, no answer.
#[test]
fn what_a_cancelled_task_wakes_by_its_end_runs_at_once() {
    struct Rings(Rc<RefCell<Option<Waker>>>, Rc<Cell<bool>>);
    impl Drop for Rings {
        fn drop(&mut self) {
            self.1.set(true);
            self.0.borrow_mut().take().unwrap().wake();
        }
    }
    driven(|ring| async move {
        let (waker, rung) = (Rc::new(RefCell::new(None)), Rc::new(Cell::new(false)));
        let rings = Rings(Rc::clone(&waker), Rc::clone(&rung));
        let cancelled = ring.spawn(async move {
            let _rings = rings;
            std::future::pending::<()>().await;
        });
        let waits = ring.spawn(poll_fn(move |context| {
            *waker.borrow_mut() = Some(context.waker().clone());
            if rung.get() { Poll::Ready(()) } else { Poll::Pending }
        }));
        ring.spawn(async move { drop(cancelled) }).await;
        waits.await;
    });
}

/// The core sleeps without any timer: only what the other thread does can wake it.
#[test]
fn wakes_from_other_threads_are_never_lost() {
    driven(|_| async move {
        let (to_us, from_them) = std::sync::mpsc::channel::<u32>();
        let waker = Arc::new(std::sync::Mutex::new(None::<Waker>));
        let theirs = Arc::clone(&waker);
        let (ask, asked) = std::sync::mpsc::channel::<u32>();
        let thread = std::thread::spawn(move || {
            while let Ok(number) = asked.recv() {
                to_us.send(number).unwrap();
                if let Some(waker) = theirs.lock().unwrap().take() {
                    waker.wake();
                }
            }
        });
        for number in 0..10_000 {
            ask.send(number).unwrap();
            let got = poll_fn(|context| {
                *waker.lock().unwrap() = Some(context.waker().clone());
                from_them.try_recv().map_or(Poll::Pending, Poll::Ready)
            });
            assert_eq!(got.await, number);
        }
        drop(ask);
        thread.join().unwrap();
    });
}

/// Two tasks that never rest keep nobody from an answer of the kernel.
#[test]
fn busy_tasks_do_not_starve_operations() {
    driven(|ring| async move {
        let is_over = Rc::new(Cell::new(false));
        let busy = || {
            let is_over = Rc::clone(&is_over);
            async move {
                while !is_over.get() {
                    yield_now().await;
                }
            }
        };
        let tasks = [ring.spawn(busy()), ring.spawn(busy())];
        let file: Rc<dyn AsFd> = Rc::new(tempfile::tempfile().unwrap());
        for block in 0..100 {
            ring.write(Rc::clone(&file), Rc::new(Aligned::zeroed(4096)), 4096, block * 4096).await.unwrap();
        }
        ring.sleep(Duration::from_millis(5)).await;
        is_over.set(true);
        for task in tasks {
            task.await;
        }
    });
}

/// More than fit into both queues.
#[test]
fn many_operations_at_once_are_all_answered() {
    driven(|ring| async move {
        let file: Rc<dyn AsFd> = Rc::new(tempfile::tempfile().unwrap());
        let memory = Rc::new(Aligned::zeroed(4096));
        let mut tasks = Vec::new();
        for block in 0..3 * u64::from(ANSWERS) {
            let (ring, file, memory) = (ring.clone(), Rc::clone(&file), Rc::clone(&memory));
            tasks.push(ring.clone().spawn(async move { ring.write(file, memory, 1, block).await.unwrap() }));
        }
        for task in tasks {
            assert_eq!(task.await, 1);
        }
        assert_eq!(Rc::strong_count(&memory), 1);
    });
}
