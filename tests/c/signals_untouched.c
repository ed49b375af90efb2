/*
 * The host's signals stay the host's: no disposition and no mask changes in start, stop or free; and worker
 * threads block every signal, so that the host's handlers never run on one.
 */
#include "support.h"

#include <signal.h>
#include <unistd.h>

static atomic_long handled;
static pthread_t main_thread;

static void on_signal(int signal) {
    (void)signal;
    if (!pthread_equal(pthread_self(), main_thread)) abort();
    handled++;
}

typedef struct signals {
    struct sigaction actions[NSIG];
    sigset_t mask;
} signals;

static signals signals_now(void) {
    signals now;
    memset(&now, 0, sizeof now);
    for (int number = 1; number < NSIG; number++) sigaction(number, NULL, &now.actions[number]);
    CHECK(!pthread_sigmask(SIG_BLOCK, NULL, &now.mask));
    return now;
}

static void check_same(const signals *before) {
    signals now = signals_now();
    for (int number = 1; number < NSIG; number++) {
        CHECK(now.actions[number].sa_handler == before->actions[number].sa_handler);
        CHECK_EQ(now.actions[number].sa_flags, before->actions[number].sa_flags);
        CHECK_EQ(sigismember(&now.mask, number), sigismember(&before->mask, number));
    }
}

/* What a fault raises on the thread that made it: blocked, it would kill without the host's handler. */
static bool is_fault(int number) {
    return number == SIGSEGV || number == SIGBUS || number == SIGFPE || number == SIGILL ||
           number == SIGTRAP || number == SIGSYS || number == SIGABRT;
}

static void on_open(ahoy_conn conn, void *user) {
    /* On a worker: everything that can be blocked is, but for faults. */
    sigset_t mask;
    CHECK(!pthread_sigmask(SIG_BLOCK, NULL, &mask));
    for (int number = 1; number <= 31; number++) {
        if (number == SIGKILL || number == SIGSTOP) continue;
        CHECK_EQ(sigismember(&mask, number), is_fault(number) ? 0 : 1);
    }
    CHECK_EQ(sigismember(&mask, SIGRTMIN), 1);
    CHECK_EQ(sigismember(&mask, SIGRTMAX), 1);
    tally_open(conn, user);
}

int main(void) {
    tally seen = TALLY_INIT;
    main_thread = pthread_self();
    struct sigaction action = { .sa_handler = on_signal };
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    signals before = signals_now();

    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen,
                                       .on_open = on_open, .on_message = tally_echo,
                                       .on_close = tally_close));
    check_same(&before);
    int fds[8];
    for (int i = 0; i < 8; i++) fds[i] = dial(server);
    latch_wait(&seen.opened, 8);

    /* Signals for the process: only this thread may take them, and while it does not, they wait. */
    sigset_t usr1;
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    for (int round = 0; round < 100; round++) {
        char echo[4];
        CHECK(!pthread_sigmask(SIG_BLOCK, &usr1, NULL));
        CHECK(kill(getpid(), SIGUSR1) == 0);
        send_all(fds[round % 8], "echo", 4); /* the workers are awake */
        recv_exact(fds[round % 8], echo, 4);
        CHECK_EQ(handled, round);
        CHECK(!pthread_sigmask(SIG_UNBLOCK, &usr1, NULL));
        CHECK_EQ(handled, round + 1);
    }

    CHECK_OK(ahoy_server_stop(server, 0));
    CHECK_OK(ahoy_server_wait(server));
    ahoy_server_free(server);
    check_same(&before);
    for (int i = 0; i < 8; i++) close(fds[i]);
    return 0;
}
