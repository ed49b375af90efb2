/*
 * What a server runs on: what the program wants, or an error that says why not. A process that may not use io_uring, as
 * in many containers, is served all the same where the program leaves the choice to the library.
 */
#include "support.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void served(int32_t driver, int32_t workers, const char *name) {
    char answer[17];
    ahoy_server server = { 0 };
    ahoy_server_options options = OPTIONS(.listen = LOOPBACK, .workers = workers, .driver = driver);
    CHECK_OK(ahoy_server_start(&options, &server));
    CHECK(!strcmp(ahoy_server_driver(server), name));
    int fd = dial(server);
    send_all(fd, "hi", 2);
    CHECK_EQ(recv_until_eof(fd, answer, sizeof answer), 17);
    close(fd);
    ahoy_server_free(server);
    CHECK(!ahoy_server_driver(server)); /* stale */
}

static latch told = LATCH_INIT;

static void on_log(int32_t level, const char *text, void *user) {
    (void)level, (void)user;
    if (strstr(text, "the server runs on epoll")) latch_add(&told, 1);
}

static void refused(ahoy_server_options options, ahoy_status status) {
    holdings before = holdings_now();
    ahoy_server server = { 77 };
    CHECK_STATUS(ahoy_server_start(&options, &server), status);
    CHECK_EQ(server.id, 77);
    CHECK_HOLDINGS(before);
}

/* From here on the system answers so to whoever wants rings. */
static void forbid_rings(unsigned error) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { .len = sizeof filter / sizeof *filter, .filter = filter };
    CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    CHECK(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

static void without_rings(unsigned error) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (!child) {
        forbid_rings(error);
        CHECK_OK(ahoy_log_set(AHOY_LOG_INFO, on_log, NULL));
        refused(OPTIONS(.listen = LOOPBACK, .workers = 2, .driver = AHOY_DRIVER_URING), AHOY_ERR_UNSUPPORTED);
        CHECK(strstr(ahoy_last_error(), "io_uring: not on this system, or not allowed here"));
        CHECK_EQ(latch_count(&told), 0);
        served(AHOY_DRIVER_AUTO, 1, "epoll");
        CHECK_EQ(latch_count(&told), 1);
        served(AHOY_DRIVER_AUTO, 2, "epoll");
        CHECK_EQ(latch_count(&told), 1);
        served(AHOY_DRIVER_EPOLL, 2, "epoll");
        CHECK_EQ(latch_count(&told), 1);
        leave_child();
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void) {
    without_rings(EPERM), without_rings(ENOSYS);
    CHECK_OK(ahoy_log_set(AHOY_LOG_INFO, on_log, NULL));
    served(AHOY_DRIVER_EPOLL, 2, "epoll");
    refused(OPTIONS(.driver = 3), AHOY_ERR_ENUM);
    refused(OPTIONS(.driver = -1), AHOY_ERR_ENUM);
    /* The rings are one thread's: a loop of the program's own may be any. */
    refused(OPTIONS(.workers = AHOY_WORKERS_NONE, .driver = AHOY_DRIVER_URING), AHOY_ERR_UNSUPPORTED);

    /* There a thread that waits in rings would hold up all others. */
    if (getenv("TEST_VALGRIND")) served(AHOY_DRIVER_AUTO, 1, "epoll");
    need_uring();
    served(AHOY_DRIVER_URING, 1, "io_uring");
    served(AHOY_DRIVER_URING, 3, "io_uring");
    served(AHOY_DRIVER_AUTO, 1, "io_uring");
    served(AHOY_DRIVER_AUTO, 3, "epoll");
    CHECK_EQ(latch_count(&told), 0);
    return 0;
}
