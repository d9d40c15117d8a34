# Imports the build of the cmdlets that fits this PowerShell; what they need they find themselves.
# Kept short on purpose: to ask for the version first takes longer than the whole import.
$file = [IO.Path]::GetFullPath("$PSScriptRoot/bin/$(if ($PSEdition -eq 'Core') { 'net10.0' } else { 'netstandard2.0' })/VMatrix.Cmdlets.dll")
foreach ($loaded in [AppDomain]::CurrentDomain.GetAssemblies()) {
    if (-not $loaded.FullName.StartsWith('VMatrix.Cmdlets,') -or $loaded.IsDynamic) { continue }
    # What is loaded stays loaded until the process ends, also after Remove-Module: another copy would run the old code under its own version.
    if ($loaded.Location -ne $file -or ((Test-Path -LiteralPath $file) -and [Reflection.AssemblyName]::GetAssemblyName($file).Version -ne $loaded.GetName().Version)) {
        throw [Management.Automation.ErrorRecord]::new(
            [InvalidOperationException]::new("Another copy of VMatrix is loaded in this session: version $($loaded.GetName().Version.ToString(3)) from '$($loaded.Location)'. It stays until PowerShell ends; import VMatrix from '$PSScriptRoot' in a new session."),
            'ModuleAlreadyLoaded', 'ResourceExists', $PSScriptRoot)
    }
}
try {
    # The views come after the check, or those of two copies would collide.
    Import-Module "$PSScriptRoot/VMatrix.Views.psd1" -ErrorAction Stop
    Import-Module $file -ErrorAction Stop
}
catch { throw "VMatrix needs PowerShell 7.6 or newer, or Windows PowerShell 5.1, and its files whole: $_" }
