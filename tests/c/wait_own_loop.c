/*
 * Waits with the program's own loop: two threads wait at once, and the one that ran the turns leaves; a callback frees the
 * server; a callback forks.
 */
#include "support.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FREES = 'f', FORKS = 'k' };

static latch kept_count = LATCH_INIT, freed = LATCH_INIT;
static ahoy_incoming kept[2];
static pid_t parent;
static _Atomic pid_t child;
static ahoy_server server;

/* Keeps its calls, and does as it is told meanwhile. */
static void keep(ahoy_incoming call, const void *data, size_t len, void *user) {
    (void)user;
    CHECK_EQ(len, 1);
    if (*(const char *)data == FREES) ahoy_server_free(server);
    if (*(const char *)data == FORKS) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) alarm(20);
        else child = pid;
    }
    if (getpid() != parent) return;
    kept[latch_count(&kept_count)] = call;
    latch_add(&kept_count, 1);
}

static ahoy_status ask(char what, uint32_t timeout_ms) {
    char answer[8];
    size_t len;
    ahoy_call_options options = { .size = sizeof options, .timeout_ms = timeout_ms };
    return ahoy_call_wait(server, "keep", &what, 1, &options, answer, sizeof answer, &len);
}

static void begin(void) {
    latch_add(&kept_count, -latch_count(&kept_count));
    server = start(OPTIONS(.workers = AHOY_WORKERS_NONE));
    CHECK_OK(ahoy_service(server, "keep", NULL, keep, &freed, count_free, NULL));
}

static void *patient(void *unused) {
    (void)unused;
    CHECK_OK(ask('1', 60000));
    return NULL;
}

static void *hasty(void *unused) {
    (void)unused;
    CHECK_STATUS(ask('2', 300), AHOY_ERR_UNKNOWN_OUTCOME);
    return NULL;
}

/* The first one runs the turns. When it has its answer it leaves, and the other has to run them itself, or its time never
 * comes. */
static void two_threads_wait(void) {
    pthread_t first, second;
    begin();
    CHECK(pthread_create(&first, NULL, patient, NULL) == 0);
    latch_wait(&kept_count, 1);
    CHECK(pthread_create(&second, NULL, hasty, NULL) == 0);
    latch_wait(&kept_count, 2);
    CHECK_OK(ahoy_reply(kept[0], "", 0));
    CHECK(pthread_join(first, NULL) == 0);
    CHECK(pthread_join(second, NULL) == 0);
    ahoy_server_free(server);
}

/* The wait ends, and with it all that was the server's. */
static void freed_in_a_callback(void) {
    long before = latch_count(&freed);
    begin();
    /* It is answered by the service, which ends. */
    CHECK_STATUS(ask(FREES, 60000), AHOY_ERR_FAILED);
    CHECK_EQ(latch_count(&freed), before + 1);
    CHECK_STATUS(ahoy_server_turn(server, 0), AHOY_ERR_STALE);
}

/* In the child nobody is left who could answer. */
static void forked_in_a_callback(void) {
    int status;
    begin();
    ahoy_status answer = ask(FORKS, 300);
    if (getpid() != parent) _exit(answer == AHOY_ERR_FORKED ? 0 : 1);
    CHECK_STATUS(answer, AHOY_ERR_UNKNOWN_OUTCOME);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQ(status, 0);
    ahoy_server_free(server);
}

int main(void) {
    holdings before = holdings_now();
    parent = getpid();
    two_threads_wait();
    freed_in_a_callback();
    forked_in_a_callback();
    CHECK_EQ(latch_count(&freed), 3);
    CHECK_HOLDINGS(before);
    return 0;
}
