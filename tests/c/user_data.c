/*
 * User data: the server's reaches every callback until a connection gets its own. Its own is freed exactly
 * once, when other user data takes its place or after on_close, and never sooner.
 */
#include "support.h"

#include <unistd.h>

static tally seen = TALLY_INIT;
static latch first_freed = LATCH_INIT, second_freed = LATCH_INIT, third_freed = LATCH_INIT;
static _Atomic(void *) at_open, at_message, at_close;

static void on_open(ahoy_conn conn, void *user) {
    at_open = user;
    CHECK(ahoy_conn_user(conn) == user);
    tally_open(conn, &seen);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    at_message = user;
    CHECK(ahoy_conn_user(conn) == user);
    tally_message(conn, data, len, &seen);
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    at_close = user;
    CHECK(ahoy_conn_user(conn) == user);
    tally_close(conn, reason, &seen);
}

static void say(int fd) {
    long before = latch_count(&seen.messages);
    send_all(fd, "x", 1);
    latch_wait(&seen.messages, before + 1);
}

static void set_from_another_thread(void) {
    seen = (tally)TALLY_INIT;
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen,
                                       .on_open = on_open, .on_message = on_message,
                                       .on_close = on_close, .on_free = tally_free));
    int fd = dial(server);
    latch_wait(&seen.opened, 1);
    ahoy_conn conn = tally_conn(&seen);
    CHECK(at_open == &seen);
    CHECK(ahoy_conn_user(conn) == &seen);
    say(fd);
    CHECK(at_message == &seen);

    CHECK_OK(ahoy_conn_set_user(conn, &first_freed, count_free));
    WAIT_UNTIL(ahoy_conn_user(conn) == &first_freed);
    say(fd);
    CHECK(at_message == &first_freed);
    CHECK_EQ(latch_count(&first_freed), 0);

    /* Another takes its place: the first is given back. */
    CHECK_OK(ahoy_conn_set_user(conn, &second_freed, count_free));
    latch_wait(&first_freed, 1);
    say(fd);
    CHECK(at_message == &second_freed);

    /* NULL is user data like any other. */
    CHECK_OK(ahoy_conn_set_user(conn, NULL, NULL));
    latch_wait(&second_freed, 1);
    say(fd);
    CHECK(at_message == NULL);
    CHECK(ahoy_conn_user(conn) == NULL);

    CHECK_OK(ahoy_conn_set_user(conn, &third_freed, count_free));
    close(fd);
    latch_wait(&seen.closed, 1);
    latch_wait(&third_freed, 1);
    CHECK(at_close == &third_freed);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&first_freed), 1);
    CHECK_EQ(latch_count(&second_freed), 1);
    CHECK_EQ(latch_count(&third_freed), 1);
    CHECK_EQ(latch_count(&seen.freed), 1); /* the server's own, at its end, once */
}

/* In on_close it may still be replaced: the new one is freed when on_close has returned. */
static latch early = LATCH_INIT, late = LATCH_INIT;

static void set_early(ahoy_conn conn, void *user) {
    CHECK_OK(ahoy_conn_set_user(conn, &early, count_free));
    CHECK(ahoy_conn_user(conn) == &early); /* on its own worker it takes effect at once */
    tally_open(conn, user);
}

static void replace_in_on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    CHECK(user == &early);
    CHECK_OK(ahoy_conn_set_user(conn, &late, count_free));
    CHECK(ahoy_conn_user(conn) == &late);
    CHECK_EQ(latch_count(&early), 1);
    CHECK_EQ(latch_count(&late), 0); /* not before on_close has returned */
    tally_close(conn, reason, &seen);
}

static void replaced_in_on_close(void) {
    seen = (tally)TALLY_INIT;
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen,
                                       .on_open = set_early, .on_message = tally_message,
                                       .on_close = replace_in_on_close));
    int fd = dial(server);
    latch_wait(&seen.opened, 1);
    close(fd);
    latch_wait(&early, 1);
    latch_wait(&late, 1);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&early), 1);
    CHECK_EQ(latch_count(&late), 1);
}

/* Threads race to set it, and with the close: whatever was taken is freed once, what was refused never. */
enum { SETTERS = 4 };

static latch set_freed = LATCH_INIT;
static atomic_long taken;

static void *set_until_stale(void *arg) {
    ahoy_conn conn = *(ahoy_conn *)arg;
    ahoy_status status;
    while ((status = ahoy_conn_set_user(conn, &set_freed, count_free)) != AHOY_ERR_STALE) {
        CHECK(status == AHOY_OK || status == AHOY_ERR_AGAIN);
        if (status == AHOY_OK) taken++;
    }
    return NULL;
}

static void raced_with_the_close(void) {
    seen = (tally)TALLY_INIT;
    ahoy_server server = start(OPTIONS(.workers = 2));
    for (long round = 0; round < rounds(200); round++) {
        int pair[2];
        ahoy_conn conn;
        pthread_t threads[SETTERS];
        stream_pair(pair);
        CHECK_OK(ahoy_server_adopt(server, pair[0], &conn));
        for (int i = 0; i < SETTERS; i++) CHECK(!pthread_create(&threads[i], NULL, set_until_stale, &conn));
        if (round % 2) close(pair[1]);
        else CHECK_OK(ahoy_conn_close(conn));
        for (int i = 0; i < SETTERS; i++) CHECK(!pthread_join(threads[i], NULL));
        if (round % 2 == 0) close(pair[1]);
    }
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&set_freed), taken);
}

int main(void) {
    set_from_another_thread();
    replaced_in_on_close();
    raced_with_the_close();
    return 0;
}
