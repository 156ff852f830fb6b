//! The platforms that have a package for npm, by the words of npm.

use crate::workspace::Result;

/// One platform.
pub(super) struct Platform {
    pub(super) name: &'static str,
    pub(super) os: &'static str,
    pub(super) cpu: &'static str,
    pub(super) libc: Option<&'static str>,
    /// The operating system, the processor and the C library by the words of Rust.
    rust: [&'static str; 3],
}

/// All platforms. The launcher has an optional dependency on the package of each.
pub(super) const PLATFORMS: [Platform; 7] = [
    platform("linux-x64-gnu", "linux", "x64", Some("glibc"), ["linux", "x86_64", "gnu"]),
    platform("linux-arm64-gnu", "linux", "arm64", Some("glibc"), ["linux", "aarch64", "gnu"]),
    platform("linux-x64-musl", "linux", "x64", Some("musl"), ["linux", "x86_64", "musl"]),
    platform("linux-arm64-musl", "linux", "arm64", Some("musl"), ["linux", "aarch64", "musl"]),
    platform("darwin-x64", "darwin", "x64", None, ["macos", "x86_64", ""]),
    platform("darwin-arm64", "darwin", "arm64", None, ["macos", "aarch64", ""]),
    platform("win32-x64", "win32", "x64", None, ["windows", "x86_64", "msvc"]),
];

/// The platform of this machine.
pub(super) fn host() -> Result<&'static Platform> {
    let libc = match () {
        () if cfg!(target_env = "gnu") => "gnu",
        () if cfg!(target_env = "musl") => "musl",
        () if cfg!(target_env = "msvc") => "msvc",
        () => "",
    };
    let rust = [std::env::consts::OS, std::env::consts::ARCH, libc];
    PLATFORMS.iter().find(|platform| platform.rust == rust).ok_or_else(|| {
        format!("no package is built for {}; add it to xtask/src/package/platform.rs", rust.join(" "))
    })
}

const fn platform(
    name: &'static str,
    os: &'static str,
    cpu: &'static str,
    libc: Option<&'static str>,
    rust: [&'static str; 3],
) -> Platform {
    Platform { name, os, cpu, libc, rust }
}
