# Imports the build of the cmdlets that fits this PowerShell; what they need they find themselves.
$framework = if ($PSVersionTable.PSEdition -ne 'Core') { 'netstandard2.0' } elseif ([Environment]::Version.Major -ge 10) { 'net10.0' } else {
    throw "VMatrix needs PowerShell 7.6 or newer, or Windows PowerShell 5.1; this is PowerShell $($PSVersionTable.PSVersion)."
}
Import-Module "$PSScriptRoot/bin/$framework/VMatrix.Cmdlets.dll"
