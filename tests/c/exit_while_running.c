/*
 * A program may end with servers running and busy, by return, by exit(3) on another thread, or inside a
 * callback: nothing hangs and nothing crashes.
 */
#include "support.h"

#include <sys/wait.h>
#include <unistd.h>

typedef enum way { BY_RETURN, ON_ANOTHER_THREAD, INSIDE_A_CALLBACK, WAYS } way;

static way way_out;
static tally seen = TALLY_INIT;

static void *leave(void *unused) {
    (void)unused;
    exit(0);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    ahoy_send(conn, data, len);
    tally_message(conn, data, len, user);
    if (way_out == INSIDE_A_CALLBACK && latch_count(&seen.messages) == 20) leave(NULL);
}

/* Keeps the server busy for as long as the process lives. */
static void *chat(void *server) {
    char byte;
    int fd = dial(*(ahoy_server *)server);
    for (;;) {
        send_all(fd, "x", 1);
        recv_exact(fd, &byte, 1);
    }
    return NULL;
}

static int program(void) {
    static ahoy_server server;
    pthread_t thread;
    server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen, .on_message = on_message));
    (void)start(OPTIONS(.listen = LOOPBACK, .workers = AHOY_WORKERS_NONE));
    for (int i = 0; i < 3; i++) CHECK(!pthread_create(&thread, NULL, chat, &server));
    latch_wait(&seen.messages, 10);
    if (way_out == ON_ANOTHER_THREAD) CHECK(!pthread_create(&thread, NULL, leave, NULL));
    while (way_out != BY_RETURN) pause();
    return 0;
}

int main(void) {
    for (way_out = 0; way_out < WAYS; way_out++) {
        fflush(NULL);
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            alarm(30);
            return program();
        }
        int status;
        CHECK(waitpid(pid, &status, 0) == pid);
        CHECK_EQ(status, 0);
    }
    return 0;
}
