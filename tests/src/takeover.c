/* The helper, taken over. Loaded into it by LD_PRELOAD, this takes the place of sendmsg, which the helper calls through
 * libc. `Ready` goes out as ever; in place of the next answer, that is in the middle of serving, it makes the one call
 * that $TAKEOVER names, says on standard error how that went, and ends the process. It decides nothing about what is
 * right; tests/confinement.rs does. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static long open_in(long dir, const char *path, uint64_t flags) {
  int makes = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
  struct open_how how = {.flags = flags, .mode = makes ? 0600 : 0};
  return syscall(SYS_openat2, dir, path, &how, sizeof how);
}

/* The root that came with Hello, found by its inode. */
static long root_fd(void) {
  unsigned long long inode = strtoull(getenv("TAKEOVER_ROOT"), NULL, 10);
  for (long fd = 3; fd < 64; fd++) {
    struct stat found;
    if (syscall(SYS_fstat, fd, &found) == 0 && found.st_ino == inode) return fd;
  }
  return -1;
}

static long connect_to(int family, const void *address, socklen_t length) {
  long fd = syscall(SYS_socket, family, SOCK_STREAM, 0);
  return fd < 0 ? fd : syscall(SYS_connect, fd, address, length);
}

static long attempt(const char *name) {
  long root = root_fd();
  long peer = atol(getenv("TAKEOVER_PEER"));
#define CASE(text) if (strcmp(name, text) == 0)
  /* openat2, which the filter lets through whatever its flags are */
  CASE("read beneath the root") return open_in(root, "file", O_RDONLY);
  CASE("read through ..") return open_in(root, "../other", O_RDONLY);
  CASE("read by an absolute path") return open_in(AT_FDCWD, getenv("TAKEOVER_OTHER"), O_RDONLY);
  CASE("read /etc/passwd") return open_in(AT_FDCWD, "/etc/passwd", O_RDONLY);
  CASE("read /proc") return open_in(AT_FDCWD, "/proc/self/status", O_RDONLY);
  CASE("open a directory to list it") return open_in(root, ".", O_RDONLY | O_DIRECTORY);
  CASE("open the root above to list it") return open_in(AT_FDCWD, "/", O_RDONLY | O_DIRECTORY);
  CASE("read an attribute outside") return syscall(SYS_fgetxattr, open_in(AT_FDCWD, "/etc", O_PATH), "user.x", 0, 0);
  CASE("set an attribute") return syscall(SYS_fsetxattr, open_in(root, "file", O_RDONLY), "user.x", "", 0, 0);
  CASE("create") return open_in(root, "new", O_WRONLY | O_CREAT | O_EXCL);
  CASE("create without a name") return open_in(root, ".", O_WRONLY | O_TMPFILE);
  CASE("open for writing") return open_in(root, "file", O_WRONLY);
  CASE("truncate by opening") return open_in(root, "file", O_WRONLY | O_TRUNC);
  CASE("open its own memory") return open_in(AT_FDCWD, "/proc/self/mem", O_RDWR);
  /* what the filter keeps out */
  CASE("openat") return syscall(SYS_openat, root, "file", O_RDONLY);
  CASE("openat outside") return syscall(SYS_openat, AT_FDCWD, getenv("TAKEOVER_OTHER"), O_RDONLY);
  CASE("unlink") return syscall(SYS_unlinkat, root, "file", 0);
  CASE("rename") return syscall(SYS_renameat2, root, "file", root, "renamed", 0);
  CASE("link") return syscall(SYS_linkat, root, "file", root, "linked", 0);
  CASE("symlink") return syscall(SYS_symlinkat, "file", root, "symlinked");
  CASE("mkdir") return syscall(SYS_mkdirat, root, "made", 0700);
  CASE("mknod") return syscall(SYS_mknodat, root, "fifo", S_IFIFO | 0600, 0);
  CASE("chmod") return syscall(SYS_fchmodat, root, "file", 0777);
  CASE("chown") return syscall(SYS_fchownat, root, "file", 0, 0, 0);
  CASE("set times") return syscall(SYS_utimensat, root, "file", NULL, 0);
  CASE("truncate") return syscall(SYS_truncate, getenv("TAKEOVER_OTHER"), 0);
  CASE("connect an abstract socket") {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *of = getenv("TAKEOVER_SOCKET");
    memcpy(address.sun_path + 1, of, strlen(of));
    return connect_to(AF_UNIX, &address, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(of));
  }
  CASE("connect by TCP") {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(getenv("TAKEOVER_PORT")))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return connect_to(AF_INET, &address, sizeof address);
  }
  CASE("bind a TCP port") {
    struct sockaddr_in address = {.sin_family = AF_INET};
    long fd = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
    return fd < 0 ? fd : syscall(SYS_bind, fd, &address, sizeof address);
  }
  CASE("fork") {
    long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) syscall(SYS_exit_group, 0);
    return pid;
  }
  CASE("exec") {
    char *arguments[] = {"true", NULL};
    return syscall(SYS_execve, "/bin/true", arguments, arguments + 1);
  }
  CASE("ptrace") return syscall(SYS_ptrace, PTRACE_SEIZE, peer, 0, 0);
  CASE("read another's memory") {
    char byte;
    struct iovec to = {&byte, 1}, from = {(void *)attempt, 1};
    return syscall(SYS_process_vm_readv, peer, &to, 1, &from, 1, 0);
  }
  CASE("signal another process") return syscall(SYS_kill, peer, SIGURG);
  CASE("tgkill another process") return syscall(SYS_tgkill, peer, peer, SIGURG);
  CASE("mount") return syscall(SYS_mount, "none", "/mnt", "tmpfs", 0, NULL);
  CASE("unshare a mount namespace") return syscall(SYS_unshare, CLONE_NEWNS);
  CASE("unshare a user namespace") return syscall(SYS_unshare, CLONE_NEWUSER);
  CASE("setns") {
    long pidfd = syscall(SYS_pidfd_open, peer, 0);
    return pidfd < 0 ? pidfd : syscall(SYS_setns, pidfd, CLONE_NEWUSER | CLONE_NEWNS);
  }
  CASE("chroot") return syscall(SYS_chroot, "/tmp");
  CASE("open by handle") {
    struct { struct file_handle of; char bytes[MAX_HANDLE_SZ]; } handle = {.of = {.handle_bytes = MAX_HANDLE_SZ}};
    int mount;
    long named = syscall(SYS_name_to_handle_at, root, "../other", &handle, &mount, 0);
    return named < 0 ? named : syscall(SYS_open_by_handle_at, root, &handle, O_RDONLY);
  }
  CASE("open_by_handle_at") return syscall(SYS_open_by_handle_at, root, NULL, O_RDONLY);
  CASE("io_uring_setup") {
    char parameters[512] = {0};
    return syscall(SYS_io_uring_setup, 1, parameters);
  }
  CASE("raise capabilities") {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct all[2] = {{~0u, ~0u, ~0u}, {0x1ff, 0x1ff, 0x1ff}};
    return syscall(SYS_capset, &header, all);
  }
  CASE("become the user again") return syscall(SYS_setresuid, 0, 0, 0);
  CASE("raise a limit") {
    struct rlimit more = {1, 1};
    return syscall(SYS_prlimit64, 0, RLIMIT_FSIZE, &more, NULL);
  }
  /* allowed with some arguments */
  CASE("map memory") return (syscall(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == -1 ? -1 : 0);
  CASE("map executable memory") return (syscall(SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == -1 ? -1 : 0);
  CASE("make memory executable") return syscall(SYS_mprotect, (uintptr_t)&errno & ~4095ul, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
  CASE("look at a descriptor's flags") return syscall(SYS_fcntl, root, F_GETFD);
  CASE("change a descriptor's flags") return syscall(SYS_fcntl, root, F_SETFD, 0);
  CASE("copy a descriptor") return syscall(SYS_fcntl, root, F_DUPFD, 100);
  CASE("write to standard error") return syscall(SYS_write, 2, "", 0);
  CASE("write to standard output") return syscall(SYS_write, 1, "x", 1);
  CASE("write to the socket") return syscall(SYS_write, 0, "x", 1);
#ifdef __x86_64__
  CASE("a call of x32") return syscall(0x40000000 + SYS_close, -1);
  CASE("a call of i386") {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(6 /* close */), "b"(-1) : "memory", "r8", "r9", "r10", "r11");
    return result < 0 ? (errno = -result, -1) : result;
  }
#endif
  CASE("no call") return syscall(-1);
  CASE("abort") return (abort(), 0);
  /* any call by its number, with arguments that mean nothing */
  if (*name >= '0' && *name <= '9') return syscall(atol(name), -1, -1, -1, -1, -1, -1);
  errno = ENOTRECOVERABLE;
  return -1;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
  static int sent = 0;
  const char *name = getenv("TAKEOVER");
  if (name == NULL || sent++ == 0) return syscall(SYS_sendmsg, fd, message, flags);
  char line[32];
  int length = snprintf(line, sizeof line, "%d\n", attempt(name) < 0 ? errno : 0);
  syscall(SYS_write, 2, line, length);
  syscall(SYS_exit_group, 0);
  return -1;
}
