/*
 * ahoy_serve, a whole program in one call: SIGINT or SIGTERM ends it when what was queued is out, a second
 * signal does not wait for that; and the process's signals are restored.
 */
#include "support.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static char url[128];

/* The program that calls ahoy_serve: exits with 0 if all is as promised. */
static void program(const char *greeting) {
    sigset_t before, after;
    struct sigaction action;
    alarm(60);
    ahoy_server_free(start(OPTIONS(.workers = 1))); /* what a sanitizer starts with the first thread */
    int threads = threads_running();
    CHECK(!pthread_sigmask(SIG_BLOCK, NULL, &before));
    CHECK_OK(ahoy_serve(url, greeting));
    CHECK(!pthread_sigmask(SIG_BLOCK, NULL, &after));
    for (int number = 1; number < NSIG; number++) {
        CHECK_EQ(sigismember(&after, number), sigismember(&before, number));
    }
    CHECK(!sigaction(SIGINT, NULL, &action) && action.sa_handler == SIG_DFL);
    CHECK(!sigaction(SIGTERM, NULL, &action) && action.sa_handler == SIG_DFL);
    WAIT_UNTIL(threads_running() <= threads);
    exit(0);
}

static pid_t run(const char *greeting) {
    snprintf(url, sizeof url, "%s", abstract_url());
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) program(greeting);
    return pid;
}

static int dial_when_up(void) {
    int fd;
    while ((fd = try_dial_url(url)) < 0) wait_moment();
    return fd;
}

static void check_exit(pid_t pid) {
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_EQ(status, 0);
}

static void ends_by(int signal) {
    char answer[32] = "";
    pid_t pid = run(signal == SIGINT ? NULL : "bonjour");
    for (int i = 0; i < 3; i++) {
        int fd = dial_when_up();
        send_all(fd, "hi", 2);
        memset(answer, 0, sizeof answer);
        CHECK(recv_until_eof(fd, answer, sizeof answer - 1) > 0);
        CHECK_TEXT(answer, signal == SIGINT ? "Hello from server" : "bonjour");
        close(fd);
    }
    CHECK(!kill(pid, signal));
    check_exit(pid);
    CHECK(try_dial_url(url) < 0);
}

enum { GREETING_BYTES = 1000000 };

/* A client that has asked for much and does not read: what it gets after a signal. */
static ssize_t drained_after(int first, int second) {
    static char greeting[GREETING_BYTES + 1], got[GREETING_BYTES];
    memset(greeting, 'g', GREETING_BYTES);
    pid_t pid = run(greeting);
    int fd = dial_when_up();
    send_all(fd, "hi", 2);
    recv_exact(fd, got, 1); /* it is being greeted */
    CHECK(!kill(pid, first));
    while (true) {
        /* The listener closes with the first signal: the stop has begun. */
        int another = try_dial_url(url);
        if (another < 0) break;
        close(another);
        wait_moment();
    }
    if (second) {
        CHECK(!kill(pid, second));
        check_exit(pid);
        return 1 + recv_until_eof(fd, got, sizeof got);
    }
    ssize_t all = 1 + recv_until_eof(fd, got, sizeof got);
    check_exit(pid);
    close(fd);
    return all;
}

static void errors(void) {
    CHECK_STATUS(ahoy_serve("nonsense", NULL), AHOY_ERR_URL);
    CHECK_STATUS(ahoy_serve("tcp://127.0.0.1:65536", NULL), AHOY_ERR_PORT);
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK));
    CHECK_OK(ahoy_server_address(server, 0, url, sizeof url));
    CHECK_STATUS(ahoy_serve(url, NULL), AHOY_ERR_ADDRESS_IN_USE);
    CHECK(strstr(ahoy_last_error(), url) != NULL);
    ahoy_server_free(server);
}

int main(void) {
    ends_by(SIGINT);
    ends_by(SIGTERM);
    CHECK_EQ(drained_after(SIGTERM, 0), GREETING_BYTES);
    CHECK(drained_after(SIGINT, SIGINT) < GREETING_BYTES);
    errors();
    return 0;
}
