using System;
using System.Management.Automation;

namespace VMatrix.Loading;

/// <summary>Makes the engine findable while the module is imported anywhere in the process. PowerShell calls it; nobody else does.</summary>
public sealed class ModuleLoader : IModuleAssemblyInitializer, IModuleAssemblyCleanup
{
    private static readonly object s_gate = new();
    private static int s_imports;

    /// <inheritdoc/>
    public void OnImport()
    {
        lock (s_gate)
        {
            if (s_imports++ == 0)
                EngineFinder.Start();
        }
    }

    /// <inheritdoc/>
    public void OnRemove(PSModuleInfo psModuleInfo)
    {
        lock (s_gate)
        {
            // Another runspace may have the module too.
            if (--s_imports > 0)
                return;
            VMatrix.Shells.HostSessions.Forget();
            try
            {
                VMatrix.Commands.Sessions.Forget();
            }
            catch (Exception error) when (ModuleFiles.Explain(error) is not null)
            {
                // The module's files went first: without the engine no session was ever open.
            }

            EngineFinder.Stop();
        }
    }
}
