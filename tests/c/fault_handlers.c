/*
 * The host's handlers for faults (a crash reporter's, a language runtime's) run on worker threads as on all
 * others: a fault inside a callback does not kill the process past them.
 */
#include "support.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

static _Thread_local sigjmp_buf back;
static atomic_int handled;

static void on_fault(int signal) {
    (void)signal;
    handled++;
    siglongjmp(back, 1);
}

/* Writes where nothing may be written, and is brought back by the handler. */
static void fault_and_return(ahoy_conn conn, const void *data, size_t len, void *user) {
    volatile char *forbidden = user;
    if (sigsetjmp(back, 1) == 0) {
        *forbidden = 'x';
        CHECK(!"the write went through");
    }
    CHECK_OK(ahoy_send(conn, data, len));
}

int main(void) {
    if (getenv("TEST_VALGRIND")) skip_test("valgrind reports the fault, as it should");
    struct sigaction action = { .sa_handler = on_fault };
    char *forbidden = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(forbidden != MAP_FAILED);
    CHECK(!sigaction(SIGSEGV, &action, NULL));
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = forbidden,
                                       .on_message = fault_and_return));
    int fd = dial(server);
    char echo[4];
    for (int round = 1; round <= 3; round++) {
        send_all(fd, "echo", 4);
        recv_exact(fd, echo, 4);
        CHECK_EQ(handled, round);
    }
    close(fd);
    ahoy_server_free(server);
    munmap(forbidden, 4096);
    return 0;
}
