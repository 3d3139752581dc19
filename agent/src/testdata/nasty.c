/* A command that tries to leave something behind. The ways are words of argv,
   taken one after the other; "ready" is printed when all were gone. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static void deaf(void) {
    for (int s = 1; s < NSIG; s++) signal(s, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
}

static void stay(void) {
    deaf();
    for (;;) pause();
}

/* Under another name, with an empty environment. */
static void become(char *way) {
    char *argv[] = {"kworker", way, NULL}, *env[] = {NULL};
    execve("/proc/self/exe", argv, env);
    _exit(99);
}

/* In a session of its own, without a parent. */
static void detach(char *way) {
    if (fork() != 0) return;
    setsid();
    if (fork() != 0) _exit(0);
    setsid();
    become(way);
}

static pid_t raw_fork(unsigned long flags) { return syscall(SYS_clone, flags, 0, 0, 0, 0); }

/* Each life lasts for one fork, so that a list of processes is old at once. */
static void hop(int kind) {
    deaf();
    for (unsigned life = 0;; life++) {
        pid_t child = kind == 1 && life % 3 == 0 ? raw_fork(CLONE_PARENT | SIGCHLD)
                      : kind == 2                ? raw_fork(0) /* tells nobody of its end */
                                                 : fork();
        if (child > 0) _exit(0);
        if (child == 0 && life % 5 == 0) setsid();
        if (child < 0) usleep(100);
    }
}

/* Two at once: parent and child overlap for a while, and nobody reaps them. */
static void tandem(void) {
    deaf();
    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        pid_t child = fork();
        if (child <= 0) continue;
        for (volatile int i = 0; i < 30000; i++) {}
        _exit(0);
    }
}

static void *fork_in_thread(void *unused) {
    if (fork() == 0) stay();
    detach("stay");
    for (;;) pause();
    return unused;
}

static void adopt(void) {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    detach("stay");
    detach("stay");
    stay();
}

static void take(char *way) {
    pthread_t thread;
    if (!strcmp(way, "stay")) stay();
    else if (!strcmp(way, "hop0")) hop(0);
    else if (!strcmp(way, "hop1")) hop(1);
    else if (!strcmp(way, "hop2")) hop(2);
    else if (!strcmp(way, "tandem")) tandem();
    else if (!strcmp(way, "adopt")) adopt();
    else if (!strcmp(way, "multiply")) { deaf(); for (;;) fork(); }
    else if (!strcmp(way, "killparent")) kill(getppid(), SIGKILL);
    else if (!strcmp(way, "stopparent")) kill(getppid(), SIGSTOP);
    else if (!strcmp(way, "plain")) { if (fork() == 0) stay(); }
    else if (!strcmp(way, "group")) {
        if (fork() == 0) { setpgid(0, 0); if (fork() == 0) stay(); stay(); }
    }
    else if (!strcmp(way, "vfork")) { if (vfork() == 0) become("stay"); }
    else if (!strcmp(way, "thread")) pthread_create(&thread, NULL, fork_in_thread, NULL);
    else if (!strcmp(way, "daemons")) { detach("stay"); detach("stay"); detach("adopt"); }
    else if (!strcmp(way, "hoppers")) { detach("hop0"); detach("hop1"); detach("hop2"); detach("tandem"); }
    else if (!strcmp(way, "bomb")) detach("multiply");
    else if (!strcmp(way, "quit")) exit(7);
    else _exit(98);
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "quit")) { puts("ready"); fflush(stdout); }
        take(argv[i]);
    }
    puts("ready");
    fflush(stdout);
    stay();
}
