/*
 * A callback forks inside the program's own loop. When it returns in the child, the turn, or the wait, that it
 * was called from answers AHOY_ERR_FORKED and has touched nothing of the parent's, which goes on.
 */
#include "support.h"

#include <sys/wait.h>
#include <unistd.h>

enum { MESSAGES = 5 };

static tally seen;
static pid_t parent;
static _Atomic pid_t child;
static char socket_file[128];

static void fork_inside(ahoy_conn conn, const void *data, size_t len, void *user) {
    if (*(const char *)data == 'f') {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) alarm(20);
        else child = pid;
    }
    CHECK_STATUS(ahoy_send(conn, data, len), getpid() == parent ? AHOY_OK : AHOY_ERR_FORKED);
    tally_message(conn, data, len, user);
}

/* In the child nothing more may come. */
static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    CHECK_EQ(getpid(), parent);
    tally_close(conn, reason, user);
}

static void *client(void *url) {
    char echo[1];
    int fd = dial_url(url);
    for (int round = 0; round < MESSAGES; round++) {
        send_all(fd, round == 1 ? "f" : "x", 1);
        recv_exact(fd, echo, 1); /* from the parent, and once */
    }
    close(fd);
    return NULL;
}

static ahoy_server begin(const char *url) {
    seen = (tally)TALLY_INIT;
    return start(OPTIONS(.listen = url, .workers = AHOY_WORKERS_NONE, .user = &seen,
                         .on_message = fork_inside, .on_close = on_close));
}

static void check_child(void) {
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQ(status, 0);
    CHECK(access(socket_file, F_OK) == 0); /* the child has not removed it */
    child = 0;
}

/* Turn by turn. */
static void forked_in_a_turn(const char *url) {
    pthread_t thread;
    ahoy_server server = begin(url);
    CHECK(!pthread_create(&thread, NULL, client, (void *)url));
    while (latch_count(&seen.closed) == 0) {
        ahoy_status status = ahoy_server_turn(server, -1);
        if (getpid() != parent) {
            CHECK_STATUS(status, AHOY_ERR_FORKED);
            leave_child();
        }
        CHECK_OK(status);
        if (child) check_child();
    }
    CHECK(!pthread_join(thread, NULL));
    CHECK_EQ(latch_count(&seen.messages), MESSAGES);
    ahoy_server_free(server);
}

static void *talk_and_stop(void *server) {
    char url[160];
    snprintf(url, sizeof url, "unix:%s", socket_file);
    client(url);
    while (child) check_child();
    CHECK_OK(ahoy_server_stop(*(ahoy_server *)server, AHOY_DRAIN_DEFAULT));
    return NULL;
}

/* In a wait, which ends in the child at once, and in the parent with the stop. */
static void forked_in_a_wait(const char *url) {
    pthread_t thread;
    ahoy_server server = begin(url);
    CHECK(!pthread_create(&thread, NULL, talk_and_stop, &server));
    ahoy_status status = ahoy_server_wait(server);
    if (getpid() != parent) {
        CHECK_STATUS(status, AHOY_ERR_FORKED);
        leave_child();
    }
    CHECK_OK(status);
    CHECK(!pthread_join(thread, NULL));
    CHECK_EQ(latch_count(&seen.messages), MESSAGES);
    CHECK_EQ(latch_count(&seen.closed), 1);
    ahoy_server_free(server);
}

int main(void) {
    char url[160];
    parent = getpid();
    snprintf(socket_file, sizeof socket_file, "%s/a.sock", make_folder());
    snprintf(url, sizeof url, "unix:%s", socket_file);
    forked_in_a_turn(url);
    forked_in_a_wait(url);
    remove_folder();
    return 0;
}
