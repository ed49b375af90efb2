/*
 * Signals whose handler was installed without SA_RESTART rain on a thread that is inside
 * ahoy_server_wait, ahoy_greet_once, ahoy_greet_fd or ahoy_server_turn: the call does not notice.
 */
#include "support.h"

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SIGNALS = 20 };

static atomic_long handled;

static void on_signal(int signal) {
    (void)signal;
    handled++;
}

/* A thread inside a call, and what it says when the call has returned. */
typedef struct victim {
    pthread_t thread;
    latch returned;
    ahoy_server server;
    const char *url;
    int fd;
} victim;

static void begin(victim *victim, void *(*call)(void *)) {
    victim->returned = (latch)LATCH_INIT;
    CHECK(!pthread_create(&victim->thread, NULL, call, victim));
    for (long before = handled; handled < before + SIGNALS; wait_moment()) {
        CHECK(!pthread_kill(victim->thread, SIGUSR1));
    }
    CHECK_EQ(latch_count(&victim->returned), 0);
}

static void end(victim *victim) {
    latch_wait(&victim->returned, 1);
    CHECK(!pthread_join(victim->thread, NULL));
}

static void *call_wait(void *arg) {
    victim *victim = arg;
    CHECK_OK(ahoy_server_wait(victim->server));
    latch_add(&victim->returned, 1);
    return NULL;
}

static void *call_turn(void *arg) {
    victim *victim = arg;
    ahoy_status status;
    /* A turn may end early with AHOY_OK, never with an error. */
    while (!(status = ahoy_server_turn(victim->server, -1))) {}
    CHECK_STATUS(status, AHOY_ERR_STOPPED);
    latch_add(&victim->returned, 1);
    return NULL;
}

static void *call_greet_once(void *arg) {
    victim *victim = arg;
    char text[16];
    size_t received;
    CHECK_OK(ahoy_greet_once(victim->url, "greeting", text, sizeof text, &received));
    CHECK_TEXT(text, "hi");
    CHECK_EQ(received, 2);
    latch_add(&victim->returned, 1);
    return NULL;
}

static void *call_greet_fd(void *arg) {
    victim *victim = arg;
    char text[16];
    size_t received;
    CHECK_OK(ahoy_greet_fd(victim->fd, "greeting", text, sizeof text, &received));
    CHECK_TEXT(text, "hi");
    latch_add(&victim->returned, 1);
    return NULL;
}

static void rain_on_wait(int32_t workers) {
    tally seen = TALLY_INIT;
    victim victim;
    char echo[4];
    victim.server = start(OPTIONS(.listen = LOOPBACK, .workers = workers, .on_message = tally_echo,
                                  .on_close = tally_close, .user = &seen));
    begin(&victim, call_wait);
    int fd = dial(victim.server);
    send_all(fd, "echo", 4);
    recv_exact(fd, echo, 4);
    CHECK_OK(ahoy_server_stop(victim.server, 0));
    end(&victim);
    CHECK_EQ(latch_count(&seen.closed), 1);
    ahoy_server_free(victim.server);
    close(fd);
}

static void rain_on_turn(void) {
    victim victim;
    victim.server = start(OPTIONS(.listen = LOOPBACK, .workers = AHOY_WORKERS_NONE));
    begin(&victim, call_turn);
    CHECK_OK(ahoy_server_stop(victim.server, 0));
    end(&victim);
    ahoy_server_free(victim.server);
}

/* Signals before the client comes, and between its connect and its first byte. */
static void rain_on_greet_once(void) {
    victim victim;
    char answer[8];
    victim.url = abstract_url();
    begin(&victim, call_greet_once);
    int fd = dial_url(victim.url);
    for (long before = handled; handled < before + SIGNALS; wait_moment()) {
        CHECK(!pthread_kill(victim.thread, SIGUSR1));
    }
    send_all(fd, "hi", 2);
    recv_exact(fd, answer, sizeof answer);
    end(&victim);
    close(fd);
}

static void rain_on_greet_fd(bool blocking) {
    victim victim;
    char answer[8];
    int pair[2];
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM | (blocking ? 0 : SOCK_NONBLOCK), 0, pair));
    victim.fd = pair[0];
    begin(&victim, call_greet_fd);
    send_all(pair[1], "hi", 2);
    end(&victim);
    recv_exact(pair[1], answer, sizeof answer);
    close(pair[0]), close(pair[1]);
}

int main(void) {
    struct sigaction action = { .sa_handler = on_signal }; /* without SA_RESTART */
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    rain_on_wait(1);
    rain_on_wait(2);
    rain_on_wait(AHOY_WORKERS_NONE);
    rain_on_turn();
    rain_on_greet_once();
    rain_on_greet_fd(true);
    rain_on_greet_fd(false);
    return 0;
}
