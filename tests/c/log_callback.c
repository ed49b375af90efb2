/*
 * The log goes to the program's callback: the level chosen and all more severe ones, never after
 * ahoy_log_set has put another in its place, and not settable from inside itself.
 */
#include "support.h"

#include <ctype.h>
#include <unistd.h>

static atomic_long by_level[6];
static latch messages = LATCH_INIT;
static atomic_bool inside_checked;
static atomic_int levels_max;

static void on_log(int32_t level, const char *message, void *user) {
    CHECK(user == &messages);
    CHECK(level >= AHOY_LOG_ERROR && level <= levels_max);
    size_t len = strlen(message);
    CHECK(len > 0 && message[len - 1] != '\n');
    for (size_t i = 0; i < len; i++) CHECK(!iscntrl((unsigned char)message[i]));
    by_level[level]++;
    if (!inside_checked) {
        CHECK_STATUS(ahoy_log_set(AHOY_LOG_TRACE, on_log, user), AHOY_ERR_DEADLOCK);
        CHECK_STATUS(ahoy_log_set(AHOY_LOG_OFF, NULL, NULL), AHOY_ERR_DEADLOCK);
        /* Other calls are legal. */
        CHECK_STATUS(ahoy_conn_close((ahoy_conn){ 0 }), AHOY_ERR_STALE);
        CHECK_TEXT(ahoy_version(), AHOY_VERSION);
        inside_checked = true;
    }
    latch_add(&messages, 1);
}

static void live(void) {
    char answer[17];
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1));
    int fd = dial(server);
    send_all(fd, "hi", 2);
    CHECK_EQ(recv_until_eof(fd, answer, sizeof answer), 17);
    close(fd);
    ahoy_server_free(server);
}

static long total_at(int32_t level) {
    long before = latch_count(&messages);
    levels_max = level;
    CHECK_OK(ahoy_log_set(level, on_log, &messages));
    live();
    CHECK_OK(ahoy_log_set(AHOY_LOG_OFF, NULL, NULL));
    long after = latch_count(&messages);
    live();
    CHECK_EQ(latch_count(&messages), after); /* none any more */
    return after - before;
}

/* While servers work, the callback is set and taken away, and its `user` freed right after. */
static atomic_bool done;

static void touch(int32_t level, const char *message, void *user) {
    (void)level, (void)message;
    (*(atomic_long *)user)++; /* memory that is freed once the callback is replaced */
}

static void *live_on(void *unused) {
    (void)unused;
    while (!done) live();
    return NULL;
}

static void replaced_while_it_runs(void) {
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) CHECK(!pthread_create(&threads[i], NULL, live_on, NULL));
    for (long round = 0; round < rounds(500); round++) {
        atomic_long *user = calloc(1, sizeof *user);
        CHECK_OK(ahoy_log_set(AHOY_LOG_TRACE, touch, user));
        if (round % 10 == 0) WAIT_UNTIL(*user > 0);
        CHECK_OK(ahoy_log_set(AHOY_LOG_OFF, NULL, NULL));
        free(user);
    }
    done = true;
    for (int i = 0; i < 2; i++) CHECK(!pthread_join(threads[i], NULL));
}

int main(void) {
    CHECK_EQ(total_at(AHOY_LOG_OFF), 0);
    CHECK_EQ(total_at(AHOY_LOG_ERROR), 0); /* nothing went wrong */
    CHECK_EQ(total_at(AHOY_LOG_WARN), 0);
    long info = total_at(AHOY_LOG_INFO);
    CHECK(info >= 2); /* the start and the stop */
    CHECK_EQ(by_level[AHOY_LOG_INFO], info);
    long debug = total_at(AHOY_LOG_DEBUG);
    CHECK(debug >= info + 2); /* the open and the close */
    CHECK(by_level[AHOY_LOG_DEBUG] >= 2);
    CHECK(total_at(AHOY_LOG_TRACE) >= debug);
    CHECK(inside_checked);
    CHECK_OK(ahoy_log_set(AHOY_LOG_TRACE, NULL, NULL)); /* no callback at any level */
    live();
    replaced_while_it_runs();
    return 0;
}
