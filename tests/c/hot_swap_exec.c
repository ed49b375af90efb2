/*
 * A restart: the old process passes its listening sockets to a new one, which starts with them, and only then stops.
 * Clients connect all the time, and no connect fails.
 */
#include "support.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CLIENTS = 3, RESTARTS = 3, CONTROL_FD = 3 };

/* ---- The restarted program ------------------------------------------------------------------- */

static void answer(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)data, (void)len;
    CHECK_OK(ahoy_send(conn, user, strlen(user))); /* who is it? */
}

static void on_drain(ahoy_conn conn, void *user) {
    (void)conn, (void)user; /* the clients end their conversations themselves */
}

/*
 * Generation 0 listens afresh and says where on the standard output; the others get their sockets through CONTROL_FD.
 * Each serves until its standard input says to hand over, by its first byte, to a program started on CONTROL_FD's
 * other end.
 */
static int generation(char *name) {
    char listen[64] = LOOPBACK, url[128], byte;
    if (strcmp(name, "0") != 0) {
        int fd;
        size_t count;
        CHECK_OK(ahoy_descriptors_receive(CONTROL_FD, &fd, 1, &count));
        CHECK_EQ(count, 1);
        snprintf(listen, sizeof listen, "fd:%d", fd);
    }
    ahoy_server server = start(OPTIONS(.listen = listen, .workers = 2, .user = name, .on_message = answer,
                                       .on_drain = on_drain));
    CHECK_OK(ahoy_server_address(server, 0, url, sizeof url));
    printf("%s\n", url); /* ready */
    fflush(stdout);
    if (read(STDIN_FILENO, &byte, 1) == 1) {
        int fd;
        size_t count;
        CHECK_OK(ahoy_server_listeners(server, &fd, 1, &count));
        CHECK_OK(ahoy_descriptors_send(CONTROL_FD, &fd, 1));
        close(fd);
        CHECK_EQ(read(STDIN_FILENO, &byte, 1), 0); /* the new one is ready */
    }
    CHECK_OK(ahoy_server_stop(server, 20000));
    CHECK_OK(ahoy_server_wait(server));
    CHECK_EQ(stats_of(server).connections_cut, 0);
    ahoy_server_free(server);
    return 0;
}

/* ---- Whoever restarts it --------------------------------------------------------------------- */

typedef struct process {
    pid_t pid;
    int input;
    FILE *output;
} process;

static const char *program; /* this one */

static process run(int number, int control) {
    int input[2], output[2];
    char name[8];
    snprintf(name, sizeof name, "%d", number);
    CHECK(!pipe2(input, O_CLOEXEC) && !pipe2(output, O_CLOEXEC));
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        dup2(input[0], STDIN_FILENO), dup2(output[1], STDOUT_FILENO);
        if (control != CONTROL_FD) dup2(control, CONTROL_FD);
        else fcntl(control, F_SETFD, 0);
        execl(program, "hot_swap_exec", name, (char *)NULL);
        _exit(127);
    }
    close(input[0]), close(output[1]);
    return (process){ pid, input[1], fdopen(output[0], "r") };
}

static void wait_ready(process *process, char *url) {
    CHECK(fgets(url, 128, process->output) != NULL);
    url[strcspn(url, "\n")] = '\0';
}

static void end(process *process) {
    int status;
    close(process->input);
    CHECK(waitpid(process->pid, &status, 0) == process->pid);
    CHECK_EQ(status, 0);
    fclose(process->output);
}

static char url[128];
static atomic_bool done;
static atomic_long failed_connects, broken, by_generation[RESTARTS + 1];

static void *client(void *unused) {
    (void)unused;
    while (!done) {
        char name = 0;
        int fd = try_dial_url(url);
        if (fd < 0) {
            failed_connects++;
            continue;
        }
        send_all(fd, "who?", 4);
        if (recv(fd, &name, 1, 0) != 1) broken++;
        else if (name >= '0' && name <= '0' + RESTARTS) by_generation[name - '0']++;
        close(fd);
    }
    return NULL;
}

int main(int argc, char **argv) {
    program = argv[0];
    if (argc > 1) return generation(argv[1]);
    pthread_t threads[CLIENTS];
    char same[128];
    int pair[2]; /* both ends stay here: either process gets its own when it is started */
    stream_pair(pair);
    process old = run(0, pair[0]);
    wait_ready(&old, url);
    for (int i = 0; i < CLIENTS; i++) CHECK(!pthread_create(&threads[i], NULL, client, NULL));
    for (int number = 1; number <= RESTARTS; number++) {
        WAIT_UNTIL(by_generation[number - 1] >= 50);
        process next = run(number, pair[number % 2]);
        CHECK(write(old.input, "x", 1) == 1);
        wait_ready(&next, same);
        CHECK_TEXT(same, url);
        end(&old); /* which tells it, too */
        old = next;
    }
    WAIT_UNTIL(by_generation[RESTARTS] >= 50);
    done = true;
    for (int i = 0; i < CLIENTS; i++) CHECK(!pthread_join(threads[i], NULL));
    end(&old);
    CHECK_EQ(failed_connects, 0);
    CHECK_EQ(broken, 0);
    close(pair[0]), close(pair[1]);
    return 0;
}
