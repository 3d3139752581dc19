package main

import (
	"os"
	"slices"
	"strings"
	"syscall"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// prepare makes all that the command's process needs before its exec.
func prepare(spec *Spec) (*launch, *Identity, *Failure) {
	if len(spec.Argv) == 0 {
		return nil, nil, failure("start", "argv is empty", syscall.EINVAL)
	}
	var owner *Identity
	if spec.User != nil {
		id, fail := LookupUser(spec.User)
		if fail != nil {
			return nil, nil, fail
		}
		owner = &id
	}
	cwd := spec.Cwd
	if cwd == "" {
		cwd = "/"
	}
	if spec.MakeCwd {
		if err := makeFolders(cwd, owner); err != nil {
			return nil, nil, failure("cwd", cwd, errnoOf(err))
		}
	}
	limits, fail := limitCalls(spec.Rlimits)
	if fail != nil {
		return nil, nil, fail
	}
	env, path := environment(spec, owner)
	l := &launch{limits: limits, umask: spec.Umask, terminal: spec.TTY != nil}
	if needsSwitch(owner) {
		l.switchUser, l.uid, l.gid, l.groups = true, owner.Uid, owner.Gid, owner.Groups
	}
	var errs [4]error
	l.argv, errs[0] = syscall.SlicePtrFromStrings(spec.Argv)
	l.envp, errs[1] = syscall.SlicePtrFromStrings(env)
	l.programs, errs[2] = syscall.SlicePtrFromStrings(candidates(spec.Argv[0], path))
	l.cwd, errs[3] = syscall.BytePtrFromString(cwd)
	for _, err := range errs {
		if err != nil {
			return nil, nil, failure("start", "NUL in a string", syscall.EINVAL)
		}
	}
	l.programs = l.programs[:len(l.programs)-1]
	return l, owner, nil
}

// candidates are the files to try for a program, as execvp(3) does.
func candidates(name, path string) []string {
	if name == "" || strings.Contains(name, "/") {
		return []string{name}
	}
	var files []string
	for _, folder := range strings.Split(path, ":") {
		if folder == "" {
			folder = "."
		}
		files = append(files, folder+"/"+name)
	}
	return files
}

// environment is the command's, each name once, and its PATH.
func environment(spec *Spec, owner *Identity) (env []string, path string) {
	at := map[string]int{}
	add := func(entry string) {
		name, _, _ := strings.Cut(entry, "=")
		if i, known := at[name]; known {
			env[i] = entry
			return
		}
		at[name] = len(env)
		env = append(env, entry)
	}
	if !spec.ClearEnv {
		for _, entry := range os.Environ() {
			name, _, _ := strings.Cut(entry, "=")
			// HOME and alike are the agent's user's: not true for another one.
			foreign := owner != nil && (name == "HOME" || name == "USER" || name == "LOGNAME")
			if !foreign && !strings.HasPrefix(name, "OPENRT_") {
				add(entry)
			}
		}
	}
	for _, entry := range spec.Env {
		add(entry)
	}
	addMissing := func(name, value string) {
		if _, known := at[name]; !known {
			add(name + "=" + value)
		}
	}
	if owner != nil {
		addMissing("HOME", owner.Home)
		if owner.Name != "" {
			addMissing("USER", owner.Name)
			addMissing("LOGNAME", owner.Name)
		}
	}
	if spec.TTY != nil && spec.TTY.Term != "" && !slices.ContainsFunc(spec.Env, isTerm) {
		add("TERM=" + spec.TTY.Term)
	}
	addMissing("PATH", defaultPath)
	return env, strings.TrimPrefix(env[at["PATH"]], "PATH=")
}

func isTerm(entry string) bool { return strings.HasPrefix(entry, "TERM=") }
