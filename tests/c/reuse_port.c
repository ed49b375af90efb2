/*
 * With `reuse_port` several servers, here and in other processes, share a port and the clients; without it
 * the second one is told that the address is in use.
 */
#include "support.h"

#include <sys/wait.h>
#include <unistd.h>

static char url[128];

static void ask(char *answer) {
    int fd = dial_url(url);
    send_all(fd, "hi", 2);
    CHECK_EQ(recv_until_eof(fd, answer, 1), 1);
    close(fd);
}

int main(void) {
    int ready[2], done[2];
    char byte;
    CHECK(!pipe(ready) && !pipe(done));

    /* The other process, which must begin before the library is used in this one. */
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        alarm(60);
        CHECK(read(done[0], url, sizeof url) > 0);
        ahoy_server server = start(OPTIONS(.listen = url, .reuse_port = 1, .greeting = "2"));
        CHECK(write(ready[1], "r", 1) == 1);
        CHECK(read(done[0], &byte, 1) == 1);
        ahoy_server_free(server);
        _exit(0);
    }

    ahoy_server first = start(OPTIONS(.listen = LOOPBACK, .reuse_port = 1, .greeting = "0"));
    CHECK_OK(ahoy_server_address(first, 0, url, sizeof url));
    ahoy_server second = start(OPTIONS(.listen = url, .reuse_port = 1, .greeting = "1"));
    CHECK(write(done[1], url, strlen(url) + 1) > 0);
    CHECK(read(ready[0], &byte, 1) == 1);

    ahoy_server none = { 0 };
    ahoy_server_options alone = OPTIONS(.listen = url);
    CHECK_STATUS(ahoy_server_start(&alone, &none), AHOY_ERR_ADDRESS_IN_USE);

    /* Every one of the three gets clients: the system spreads them by a hash of the addresses. */
    bool answered[3] = { false, false, false };
    while (!answered[0] || !answered[1] || !answered[2]) {
        char answer;
        ask(&answer);
        CHECK(answer >= '0' && answer <= '2');
        answered[answer - '0'] = true;
    }

    CHECK(write(done[1], "d", 1) == 1);
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_EQ(status, 0);
    ahoy_server_free(first);
    ahoy_server_free(second);
    close(ready[0]), close(ready[1]), close(done[0]), close(done[1]);
    return 0;
}
