//! Small file systems of a test's own: ext4 in a file, mounted through a loop device.
//!
//! They can be full, go read-only as the kernel makes them on an error, and stall. A [`Disk`] is seen by the thread
//! that mounted it and by what that thread starts (a mount namespace of its own), so that nothing stays behind even
//! when the test is killed; dropping it cleans up at once. Needs root and loop devices: where they are missing,
//! [`Disk::mount`] says so and gives nothing.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::statvfs;

/// A killed process lets go of a file system once its last operation has ended.
const RELEASE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);

/// One mounted file system. Brokers on it must have ended before it is dropped.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    point: PathBuf,
}

impl Disk {
    /// A fresh one in `dir`, which may lie on another [`Disk`]. Nothing where this machine does not let us, which is
    /// told past the capture of passing tests.
    pub fn mount(dir: &Path, mebibytes: u64) -> Option<Disk> {
        match Disk::try_mount(dir, mebibytes) {
            Ok(disk) => Some(disk),
            Err(why) => {
                let test = thread::current().name().unwrap_or("a test").to_string();
                let _ = writeln!(std::io::stderr(), "SKIPPED {test}: no file system of its own: {why}");
                None
            }
        }
    }

    fn try_mount(dir: &Path, mebibytes: u64) -> Result<Disk, String> {
        private_mounts()?;
        let image = dir.join("disk.img");
        File::create(&image).and_then(|file| file.set_len(mebibytes << 20)).map_err(|e| e.to_string())?;
        run("mkfs.ext4", &["-q", "-F", "-m", "0", "-E", "nodiscard", text(&image)])?;
        Disk::mount_image(image, dir.join("disk"))
    }

    fn mount_image(image: PathBuf, point: PathBuf) -> Result<Disk, String> {
        fs::create_dir_all(&point).map_err(|error| error.to_string())?;
        run("mount", &["-o", "loop,errors=remount-ro", text(&image), text(&point)])?;
        Ok(Disk { image, point })
    }

    pub fn path(&self) -> &Path {
        &self.point
    }

    pub fn free_bytes(&self) -> u64 {
        let stat = statvfs(&self.point).expect("mounted");
        stat.blocks_available() * stat.fragment_size()
    }

    /// Takes all but `left_bytes` with a file, which is returned.
    pub fn fill(&self, left_bytes: u64) -> PathBuf {
        let path = self.point.join("ballast");
        let file = File::create(&path).expect("room for a name");
        // What is free shrinks by what the file's own map takes, too.
        let mut bytes = 0;
        for _ in 0..100 {
            let free = self.free_bytes();
            if free <= left_bytes {
                return path;
            }
            bytes += (free - left_bytes).div_ceil(2).max(4096).min(free);
            if fallocate(&file, FallocateFlags::empty(), 0, bytes.cast_signed()).is_err() {
                return path;
            }
        }
        path
    }

    /// Has the kernel write out what it would write some time, whether that works or not.
    pub fn sync(&self) {
        let _ = run("sync", &["-f", text(&self.point)]);
    }

    /// What the kernel does when it meets an error in the file system: from now on nothing can be written. (A
    /// remount by hand is refused while files are open for writing.)
    pub fn go_read_only(&self) {
        fs::write(self.sys("trigger_fs_error"), "1").expect("ext4 has one for each mount");
    }

    /// Takes it away, mends it and mounts it again. Nobody may be using it.
    #[track_caller]
    pub fn mend(&self) {
        self.unmount();
        // 0: nothing to do; 1: mended.
        let done = Command::new("e2fsck").args(["-f", "-y"]).arg(&self.image).output().expect("e2fsck");
        assert!(matches!(done.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&done.stdout));
        run("mount", &["-o", "loop,errors=remount-ro", text(&self.image), text(&self.point)])
            .expect("mended");
    }

    /// Every write to it waits until the result is dropped.
    #[track_caller]
    pub fn freeze(&self) -> Frozen {
        // A helper holds it and thaws when its input ends, which also happens when this process is killed.
        let script = "fsfreeze -f \"$0\" && echo frozen && read _; fsfreeze -u \"$0\"";
        let mut helper = Command::new("sh");
        helper.args(["-c", script]).arg(&self.point).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = helper.spawn().expect("a shell");
        let mut said = [0; 7];
        std::io::Read::read_exact(child.stdout.as_mut().expect("piped"), &mut said).expect("frozen");
        Frozen { child }
    }

    /// The disk as it is now, as another one. Of a disk whose own disk is frozen it is what is on stable storage.
    #[track_caller]
    pub fn copy(&self, dir: &Path) -> Disk {
        let image = dir.join("copy.img");
        run("cp", &["--sparse=always", text(&self.image), text(&image)]).expect("copied");
        Disk::mount_image(image, dir.join("copy")).expect("what one kernel left another one mounts")
    }

    fn sys(&self, name: &str) -> PathBuf {
        let mounts = fs::read_to_string("/proc/thread-self/mounts").expect("Linux");
        let of_this = |line: &&str| line.split(' ').nth(1) == Some(text(&self.point));
        let line = mounts.lines().find(of_this).expect("mounted");
        let device =
            line.split(' ').next().and_then(|device| device.strip_prefix("/dev/")).expect("a device");
        Path::new("/sys/fs/ext4").join(device).join(name)
    }

    #[track_caller]
    fn unmount(&self) {
        let start = Instant::now();
        while let Err(why) = run("umount", &[text(&self.point)]) {
            assert!(start.elapsed() < RELEASE, "{why}");
            thread::park_timeout(LOOK);
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if !thread::panicking() {
            return self.unmount();
        }
        // The broker of a failed test may be running still: the mount goes with its last file.
        let _ = run("umount", &["-l", text(&self.point)]);
    }
}

/// From now on mounts are those of this thread and its children.
fn private_mounts() -> Result<(), String> {
    thread_local!(static DONE: Cell<bool> = const { Cell::new(false) });
    if DONE.get() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS).map_err(|error| format!("unshare: {error}"))?;
    run("mount", &["--make-rprivate", "/"])?;
    DONE.set(true);
    Ok(())
}

/// A disk that does not answer.
#[derive(Debug)]
pub struct Frozen {
    child: Child,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let done = Command::new(program).args(args).stdin(Stdio::null()).output();
    let done = done.map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    if done.status.success() { Ok(()) } else { Err(format!("{program} {}: {}", args.join(" "), said.trim())) }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of the build are UTF-8")
}
