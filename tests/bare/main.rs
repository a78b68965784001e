//! A program for a Cortex-M0, which faults when it reads a number at an address that is no multiple of the number's
//! size. It decodes all formats at every offset, then makes such a fault, to show that this machine does fault.
//!
//! `tests/run` boots it under qemu. It talks to qemu by semihosting: a breakpoint with the operation in `r0`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[path = "../../core/tests/offsets/mod.rs"]
mod offsets;

#[cfg(not(target_os = "none"))]
fn main() {
    offsets::all();
}

#[cfg(target_os = "none")]
mod machine {
    use core::arch::{asm, global_asm};
    use core::fmt::{self, Write};
    use core::panic::PanicInfo;
    use core::sync::atomic::{AtomicBool, Ordering};

    // The vectors: the stack, the start and the handlers of faults. qemu has cleared the memory.
    global_asm!(
        ".section .vectors, \"a\"",
        ".global vectors",
        "vectors:",
        ".word 0x20004000",
        ".word start + 1",
        ".word fault + 1",
        ".word fault + 1",
    );

    /// Whether all formats were decoded, so that the next fault is the wanted one.
    static READ: AtomicBool = AtomicBool::new(false);

    #[unsafe(no_mangle)]
    extern "C" fn start() -> ! {
        super::offsets::all();
        READ.store(true, Ordering::Relaxed);
        // SAFETY: It reads memory that exists, or faults and does not return.
        unsafe { asm!("ldr {0}, [{0}]", inout(reg) 0x2000_0001_u32 => _) };
        say("this machine reads numbers at any address, so the test shows nothing\n\0");
        exit(false);
    }

    #[unsafe(no_mangle)]
    extern "C" fn fault() -> ! {
        let wanted = READ.load(Ordering::Relaxed);
        if !wanted {
            say("a fault\n\0");
        }
        exit(wanted);
    }

    #[panic_handler]
    fn panic(info: &PanicInfo<'_>) -> ! {
        let _ = writeln!(Console, "{info}");
        exit(false);
    }

    struct Console;

    impl Write for Console {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for byte in text.bytes() {
                call(0x03, core::ptr::from_ref(&byte).addr());
            }
            Ok(())
        }
    }

    /// Prints `text`, which ends with a zero.
    fn say(text: &str) {
        call(0x04, text.as_ptr().addr());
    }

    fn exit(good: bool) -> ! {
        call(0x18, if good { 0x20026 } else { 0x20023 });
        loop {}
    }

    fn call(operation: u32, argument: usize) {
        // SAFETY: qemu reads what `argument` points to, and changes `r0` only.
        unsafe { asm!("bkpt 0xab", inout("r0") operation => _, in("r1") argument) };
    }
}
