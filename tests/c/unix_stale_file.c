/*
 * A socket file that a dead process left behind is replaced; one where somebody still listens is not, and
 * nothing that is no socket is ever deleted. A stop removes the server's own file, and only that.
 */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static char url[100];
static const char *path = url + 5;

/* What a process that was killed leaves: a file without a listener. */
static void leave_behind(int type) {
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, type, 0);
    snprintf(name.sun_path, sizeof name.sun_path, "%s", path);
    CHECK(bind(fd, (struct sockaddr *)&name, sizeof name) == 0);
    CHECK(type != SOCK_STREAM || listen(fd, 1) == 0);
    close(fd);
    CHECK(access(path, F_OK) == 0);
    CHECK(type != SOCK_STREAM || try_dial_url(url) == -ECONNREFUSED);
}

static void check_served(ahoy_server server) {
    char answer[17];
    int fd = dial_url(url);
    send_all(fd, "hi", 2);
    CHECK_EQ(recv_until_eof(fd, answer, sizeof answer), 17);
    close(fd);
    WAIT_UNTIL(stats_of(server).closed == stats_of(server).opened);
}

static void check_refused(ahoy_status expected) {
    ahoy_server_options options = OPTIONS(.listen = url);
    ahoy_server none = { 0 };
    holdings before = holdings_now();
    CHECK_STATUS(ahoy_server_start(&options, &none), expected);
    CHECK_EQ(none.id, 0);
    CHECK(strstr(ahoy_last_error(), path) != NULL);
    /* Whether somebody listens is found out by a connection, which our own server may yet accept, and close. */
    WAIT_UNTIL(descriptors_open() == before.descriptors && threads_running() <= before.threads);
}

int main(void) {
    const char *folder = make_folder();
    snprintf(url, sizeof url, "unix:%s/server.sock", folder);

    /* Left behind: replaced. */
    leave_behind(SOCK_STREAM);
    ahoy_server server = start(OPTIONS(.listen = url));
    check_served(server);

    /* Live: refused, and the one who listens does not notice. */
    check_refused(AHOY_ERR_ADDRESS_IN_USE);
    check_served(server);

    /* A stop removes the file before the server is freed. */
    CHECK_OK(ahoy_server_stop(server, 0));
    CHECK_OK(ahoy_server_wait(server));
    CHECK(access(path, F_OK) != 0 && errno == ENOENT);
    ahoy_server_free(server);
    server = start(OPTIONS(.listen = url));
    check_served(server);
    ahoy_server_free(server);
    CHECK(access(path, F_OK) != 0 && errno == ENOENT);

    /* Not ours any more: somebody has put another file in its place. */
    server = start(OPTIONS(.listen = url));
    CHECK(unlink(path) == 0);
    int file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(write(file, "data", 4) == 4 && close(file) == 0);
    ahoy_server_free(server);
    struct stat stat;
    CHECK(lstat(path, &stat) == 0 && S_ISREG(stat.st_mode));

    /* A regular file, a folder, a link: in use, and left alone. */
    check_refused(AHOY_ERR_ADDRESS_IN_USE);
    CHECK(lstat(path, &stat) == 0 && S_ISREG(stat.st_mode) && stat.st_size == 4);
    CHECK(unlink(path) == 0 && mkdir(path, 0700) == 0);
    check_refused(AHOY_ERR_ADDRESS_IN_USE);
    CHECK(rmdir(path) == 0 && symlink("/nonexistent", path) == 0);
    check_refused(AHOY_ERR_ADDRESS_IN_USE);
    CHECK(lstat(path, &stat) == 0 && S_ISLNK(stat.st_mode));
    CHECK(unlink(path) == 0);

    /* After a start that failed further on, no socket file is left. */
    char both[512];
    snprintf(both, sizeof both, "%s,tcp://192.0.2.1:0", url);
    ahoy_server none = { 0 };
    ahoy_server_options options = OPTIONS(.listen = both);
    CHECK_STATUS(ahoy_server_start(&options, &none), AHOY_ERR_ADDRESS_UNAVAILABLE);
    CHECK(access(path, F_OK) != 0);
    remove_folder();
    return 0;
}
