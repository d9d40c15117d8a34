using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Management.Automation;
using System.Runtime.ExceptionServices;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Commands;

/// <summary>What every cmdlet of VMatrix shares: its pool, its cancellation, and the one bridge from asynchronous work to the pipeline's thread.</summary>
public abstract class VMatrixCommand : PSCmdlet, IDisposable
{
    /// <summary>Work that takes longer says what it waits for.</summary>
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(1);

    /// <summary>A listing serves the items of a pipeline for so long; who comes later, or is newer, is looked for again.</summary>
    private static readonly TimeSpan s_fresh = TimeSpan.FromSeconds(5);

    private readonly CancellationTokenSource _stop = new();
    private BlockingCollection<Action>? _posted;
    private bool _busyShown;
    private readonly HashSet<(string Pool, string? Host)> _told = [];
    private readonly List<ErrorRecord> _kept = [];
    private Dictionary<string, (PoolListing Listing, Stopwatch Age)>? _listings;
    private volatile bool _broken;
    private string? _itemPool;
    private string? _within;

    /// <summary>The pool that was named; null for the environment's or, for reading, the current folder's.</summary>
    public abstract PoolIdentity? Pool { get; set; }

    /// <summary>True for a cmdlet that changes something: its pool must be named.</summary>
    private protected abstract bool ForChange { get; }

    /// <summary>True under -WhatIf: then the pool is opened for reading only.</summary>
    private protected virtual bool IsWhatIf => false;

    /// <summary>True where work is of no use once its output cannot be written, so that it is ended then.</summary>
    private protected virtual bool EndsWithOutput => true;

    /// <summary>True once the pipeline takes nothing more: an error ended it (<c>-ErrorAction Stop</c>), or a reader downstream failed.</summary>
    private protected bool Broken => _broken;

    /// <summary>Full path of the file of the pool at hand: the one that was named, else the item's own, else the environment's and, for reading, the current folder's.</summary>
    /// <exception cref="VMatrixException"><c>PoolNotNamed</c>.</exception>
    private protected string PoolPath
    {
        get
        {
            if (_within is not null)
                return _within;
            string? given = Pool?.Path ?? _itemPool ?? Environment.GetEnvironmentVariable("VMATRIX_POOL");
            if (!string.IsNullOrEmpty(given))
            {
                string path = Paths.Resolve(SessionState, given!);
                return Directory.Exists(path) ? Path.Combine(path, "pool.yaml") : path;
            }

            string? here = ForChange ? null : Paths.Current(SessionState);
            return here is not null && File.Exists(here = Path.Combine(here, "pool.yaml")) ? here : throw Errors.PoolNotNamed(ForChange);
        }
    }

    /// <summary>Writes objects, each with the pool that it comes from.</summary>
    private protected void WriteEach<T>(IEnumerable<T> values)
    {
        foreach (var value in values)
            Write(value);
    }

    /// <summary>Writes an object with the pool that it comes from.</summary>
    private protected virtual void Write<T>(T value) => WriteObject(Pooled.In(PoolPath, value));

    /// <summary>Ends what runs; called by PowerShell on Ctrl+C, from another thread.</summary>
    protected override void StopProcessing()
    {
        try
        {
            _stop.Cancel();
        }
        catch (ObjectDisposedException)
        {
            // It had ended just before.
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Lets go of what the cmdlet holds.</summary>
    /// <param name="disposing">True when called by <see cref="Dispose()"/>.</param>
    protected virtual void Dispose(bool disposing)
    {
        if (disposing)
            _stop.Dispose();
    }

    /// <summary>The pool's file, once it was opened; null before.</summary>
    private protected PoolSpec? Spec { get; private set; }

    /// <summary>The pool's name, once it was opened; empty before.</summary>
    private protected string PoolName => Spec?.Name ?? "";

    /// <summary>Opens the pool and works in it, away from the pipeline's thread, so that a slow reader downstream never holds up a move.</summary>
    /// <param name="busy">What it waits for, shown when it takes long.</param>
    /// <param name="work">The work.</param>
    private protected T InPool<T>(string busy, Func<PoolSession, CancellationToken, Task<T>> work)
    {
        string path = PoolPath;
        bool forChange = ForChange && !IsWhatIf;
        return Await(busy, async cancellation =>
        {
            using var lease = await Sessions.RentAsync(path, forChange, cancellation);
            Spec = lease.Session.Spec;
            return await work(lease.Session, cancellation);
        });
    }

    /// <summary>The one bridge: runs work away from the pipeline's thread, and on that thread what the work posts meanwhile.</summary>
    private protected T Await<T>(string busy, Func<CancellationToken, Task<T>> work)
    {
        using var posted = new BlockingCollection<Action>();
        _posted = posted;
        // A token of its own: a reader downstream that has had enough ends this work, not the cmdlet's clean-up after it.
        using var end = CancellationTokenSource.CreateLinkedTokenSource(_stop.Token);
        var task = Task.Run(async () =>
        {
            // Messages are one language: numbers are written as it does, whatever the session's culture.
            CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
            try
            {
                return await work(end.Token);
            }
            finally
            {
                posted.CompleteAdding();
            }
        });
        ExceptionDispatchInfo? ours = null;
        while (!posted.IsCompleted)
        {
            bool taken = posted.TryTake(out var action, s_patience);
            if (ours is not null)
                continue;
            try
            {
                if (taken)
                    action!();
                else if (!posted.IsCompleted)
                    ShowBusy(busy);
            }
            catch (Exception error)
            {
                // The pipeline has stopped or wants no more. The work comes to a whole state before that is passed on.
                ours = ExceptionDispatchInfo.Capture(error);
                _broken = true;
                if (EndsWithOutput)
                    end.Cancel();
            }
        }

        try
        {
            // The work has ended, so this takes its result and waits for nothing.
            var result = task.GetAwaiter().GetResult();
            ours?.Throw();
            HideBusy(busy);
            return result;
        }
        catch (Exception) when (ours is not null)
        {
            ours.Throw();
            throw;
        }
        catch (OperationCanceledException) when (_stop.IsCancellationRequested)
        {
            throw new PipelineStoppedException();
        }
    }

    /// <summary>Has an action done on the pipeline's thread, soon. Called by the work, from any thread.</summary>
    private protected void Post(Action action)
    {
        try
        {
            _posted?.Add(action);
        }
        catch (InvalidOperationException)
        {
            // The work has ended; a late word of progress interests nobody. (ObjectDisposedException is one of these.)
        }
    }

    /// <summary>Does something about one item; trouble with it is an error that lets the next item go on.</summary>
    /// <param name="item">The item, as the user gave it.</param>
    /// <param name="pool">The pool that the item itself names; null for none.</param>
    /// <param name="action">What to do.</param>
    private protected void ForItem(object? item, string? pool, Action action)
    {
        _itemPool = pool;
        try
        {
            Whole(action);
        }
        catch (VMatrixException error) when (error.Id is "PoolNotNamed" && !MyInvocation.ExpectingInput)
        {
            ThrowTerminatingError(Errors.From(error, item));
        }
        catch (VMatrixException error)
        {
            WriteError(Errors.From(error, item));
        }
        catch (Exception error) when (Loading.ModuleFiles.Explain(error) is { } explained)
        {
            ThrowTerminatingError(Errors.From(explained, item));
        }
        finally
        {
            _itemPool = null;
        }
    }

    /// <summary>Keeps an error until what is under way has ended: where an error ends the pipeline (<c>-ErrorAction Stop</c>), it would end the work half way.</summary>
    private protected void Keep(ErrorRecord error) => _kept.Add(error);

    /// <summary>Writes the errors that were kept.</summary>
    private protected void WriteKept()
    {
        ErrorRecord[] errors = [.. _kept];
        _kept.Clear();
        foreach (var error in errors)
            WriteError(error);
    }

    private void Whole(Action action)
    {
        try
        {
            action();
        }
        finally
        {
            WriteKept();
        }
    }

    /// <summary>Works in a pool whose path is known already.</summary>
    private protected T Within<T>(string pool, Func<T> work)
    {
        string? before = _within;
        _within = pool;
        try
        {
            return work();
        }
        finally
        {
            _within = before;
        }
    }

    /// <summary>Does something that concerns no single item; trouble with it ends the cmdlet.</summary>
    private protected void ForAll(Action action)
    {
        try
        {
            Whole(action);
        }
        catch (VMatrixException error)
        {
            ThrowTerminatingError(Errors.From(error, Pool?.Path));
        }
        catch (Exception error) when (Loading.ModuleFiles.Explain(error) is { } explained)
        {
            ThrowTerminatingError(Errors.From(explained, Pool?.Path));
        }
    }

    /// <summary>A filter by names with wildcards; without names everything passes.</summary>
    private protected static Func<string?, bool> Filter(IReadOnlyCollection<string>? names)
    {
        if (names is null or { Count: 0 })
            return _ => true;
        WildcardPattern[] patterns = [.. names.Select(n => WildcardPattern.Get(n, WildcardOptions.IgnoreCase | WildcardOptions.CultureInvariant))];
        return name => name is not null && Array.Exists(patterns, p => p.IsMatch(name));
    }

    /// <summary>Tells of each host that did not answer when the pool at hand was looked at last: what is on it is not listed, and not gone.</summary>
    /// <param name="fits">The hosts that the listing is about, null being the nest; all unless said.</param>
    private protected IReadOnlyList<SilentPlace> ReportSilent(Func<string?, bool>? fits = null)
    {
        var silent = Silent();
        foreach (var place in silent)
        {
            if (fits?.Invoke(place.Host) is not false && _told.Add((PoolPath, place.Host)))
                WriteError(Errors.From(place.Error, place.Host ?? PoolPath));
        }

        return silent;
    }

    /// <summary>The hosts that did not answer when the pool at hand was looked at last.</summary>
    private protected IReadOnlyList<SilentPlace> Silent() => InPool("Asking the hosts", (pool, _) => Task.FromResult(pool.SilentPlaces));

    /// <summary>Tells of names without wildcards that fit nothing.</summary>
    private protected void ReportMissing(string what, IEnumerable<string>? names, IReadOnlyCollection<string> found, string pool, IReadOnlyList<SilentPlace>? silent = null)
    {
        foreach (string name in names ?? [])
        {
            if (!WildcardPattern.ContainsWildcardCharacters(name) && !found.Contains(name, StringComparer.OrdinalIgnoreCase))
                WriteError(Errors.From(Errors.NotFound(what, name, pool, silent), name));
        }
    }

    /// <summary>The pool's servers as they were a moment ago, one look for as many items as possible.</summary>
    private protected PoolListing Listing()
    {
        string path = PoolPath;
        _listings ??= new(StringComparer.Ordinal);
        if (_listings.TryGetValue(path, out var kept) && kept.Age.Elapsed < s_fresh)
            return kept.Listing;
        var listing = InPool("Listing the servers", (pool, cancellation) => pool.ListAsync(cancellation));
        Sessions.Remember(path, listing.Servers);
        _listings[path] = (listing, Stopwatch.StartNew());
        return listing;
    }

    /// <summary>Forgets what was listed of the pool at hand, when it was changed.</summary>
    private protected void Relist() => _ = _listings?.Remove(PoolPath);

    /// <summary>The server that was named.</summary>
    /// <param name="server">How it was named.</param>
    /// <param name="fits">Which servers are meant at all, such as the disposed ones.</param>
    /// <exception cref="VMatrixException"><c>ServerNotFound</c>, <c>ServerAmbiguous</c>.</exception>
    private protected ServerInfo Resolve(ServerIdentity server, Func<ServerInfo, bool> fits)
    {
        string path = PoolPath;
        bool kept = _listings?.ContainsKey(path) == true;
        var listing = Listing();
        var found = server.FindIn(listing.Servers, fits);
        // What was listed may be older than what came down the pipeline since.
        if (kept && (found is null || server.Generation > found.Generation))
        {
            Relist();
            listing = Listing();
            found = server.FindIn(listing.Servers, fits);
        }

        return found ?? throw Errors.NotFound("Server", server, PoolName, Silent());
    }

    /// <summary>True while a bar tells of moves; the bar of waiting keeps away then, for there is one bar a cmdlet.</summary>
    private protected bool ShowsMoves { get; set; }

    /// <summary>The cmdlet's one progress bar.</summary>
    private protected ProgressRecord Busy(string busy) => new(1, MyInvocation.MyCommand.Name, busy);

    private void ShowBusy(string busy)
    {
        if (ShowsMoves)
            return;
        WriteProgress(Busy(busy));
        _busyShown = true;
    }

    private void HideBusy(string busy)
    {
        if (!_busyShown || ShowsMoves)
            return;
        var done = Busy(busy);
        done.RecordType = ProgressRecordType.Completed;
        WriteProgress(done);
        _busyShown = false;
    }
}

/// <summary>A cmdlet that reads. Its pool may come down the pipeline, or be the current folder's.</summary>
public abstract class ReadingCommand : VMatrixCommand
{
    /// <summary>The pool: the path of its file or folder, or an object of <c>Get-VMatrixPool</c>.</summary>
    [Parameter(ValueFromPipeline = true)]
    [ValidateNotNull]
    public override PoolIdentity? Pool { get; set; }

    private protected override bool ForChange => false;

    /// <summary>Tells what could not be read of the history, so that nothing shown is not taken for nothing done.</summary>
    private protected void ReportHistory()
    {
        if (InPool("Reading the history", (pool, _) => System.Threading.Tasks.Task.FromResult(pool.HistoryProblem)) is { } problem)
            WriteError(Errors.From(new VMatrixException("HistoryUnreadable", VMatrixErrorKind.Unreachable, $"Not all that ended in pool '{PoolName}' is shown: {problem}"), PoolPath));
    }

    /// <summary>Tells what is damaged in the state folder: journals of moves, claims and overrides.</summary>
    private protected void ReportState()
    {
        foreach (var problem in InPool("Reading the state folder", (pool, _) => System.Threading.Tasks.Task.FromResult(pool.ReadStateProblems())))
        {
            if (problem.Id != "HistoryUnreadable")
                WriteError(Errors.From(problem, PoolPath));
        }
    }
}
